// Products of dense matrices on a GPU, through cuBLASLt. What a tensor must become to fit this
// interface is the business of product.cuh.
//
// Determinism: one algorithm is chosen for a problem (its sizes, leading dimensions, dtypes and the
// alignment of its pointers), by the library's own rules, so that every run on the same kind of GPU
// with the same cuBLASLt gives the same bits. For large products of 16-bit numbers the library's
// next choices are timed beside its first, once, and the fastest is taken of those that sum in the
// same order, which drawn operands show: timing decides about time only (tune_products_from).
// Sums may be split along K only if the parts are added in a separate step in the type of the sums:
// nothing is added in the order in which blocks happen to finish, and no part is rounded to 16
// bits.
#pragma once

#include <cstdint>

#include <tendril/core/cuda/runtime.cuh>

namespace tendril::cuda {

/// A matrix whose rows are dense (whose columns are, when `column_major`), or a batch of them.
struct BlasMatrix {
  const void* data = nullptr;
  int64_t ld = 0;  // elements from one row (column) to the next
  bool column_major = false;
  int64_t batch_stride = 0;  // elements from one matrix to the next; 0 repeats it
};

/// What happens to the sums u = A B + bias before they are stored.
enum class Epilogue : uint8_t {
  none,
  gelu,          // C = gelu_tanh(u), aux = u
  gelu_gradient  // C = u gelu_tanh'(aux)
};

/// C (M, N) = alpha A (M, K) B (K, N) + bias (N), for each matrix of a batch; plus what C holds
/// already when `accumulate`. A and B have one dtype; C has the same, or f32 for 16-bit A and B.
/// Sums run in f32, for f64 in f64.
struct BlasProduct {
  const char* op;  // for errors
  Device device;
  DType in, out;
  int64_t m, n, k, batch = 1;
  BlasMatrix a = {}, b = {}, c = {};  // c is row-major
  double alpha = 1.0;
  const void* bias = nullptr;
  bool accumulate = false;
  Epilogue epilogue = Epilogue::none;
  void* aux = nullptr;  // (M, N) with the layout of C
};

/// Queues the product on the device's stream. False when cuBLASLt has no algorithm for it; nothing
/// has been written then. No size may be 0.
bool multiply(const BlasProduct& product);

}  // namespace tendril::cuda
