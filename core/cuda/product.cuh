// Products of tensors on a GPU: brings operands of any strides and dtypes to what cuBLASLt takes
// (blas.cuh), without copying them where it can read them in place.
#pragma once

#include <tendril/core/cuda/blas.cuh>

namespace tendril::cuda {

struct ProductExtras {
  Tensor bias = {};         // (N), any floating dtype
  bool accumulate = false;  // out += a b instead of out = a b; not together with a bias
  double alpha = 1.0;       // multiplies a b
  Epilogue epilogue = Epilogue::none;
  Tensor aux = {};  // laid out like `out`
};

/// out (batch..., M, N) = a (batch..., M, K) b (batch..., K, N) + bias, any floating dtypes; a and
/// b are expanded to out's batch axes, the rows of `out` are dense. Sums run in f32 (f64 when `out`
/// or an operand is f64) and are rounded once. False, and nothing is written, when an epilogue
/// other than none is not to be had for these operands.
bool product(const char* op, const Tensor& a, const Tensor& b, const Tensor& out,
             const ProductExtras& extras = {});

}  // namespace tendril::cuda
