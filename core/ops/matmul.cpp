#include <tendril/core/ops/matmul.h>

#include <tendril/core/cpu/gemm.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/reduce.h>
#include <tendril/core/strided.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace cpu {

tendril::cpu::MatrixView matrix(const Tensor& x, int64_t offset) {
  const int64_t rank = x.rank();
  const char* data = static_cast<const char*>(x.raw_data()) + offset * size_of(x.dtype());
  return {data, x.dtype(), x.strides()[rank - 2], x.strides()[rank - 1]};
}

// `out` is contiguous (batch..., M, N); a and b are expanded to its batch axes. `bias` (N) may be
// undefined.
void matmul(const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& out) {
  if (out.numel() == 0) return;
  const int64_t rank = out.rank(), M = out.size(-2), N = out.size(-1), K = a.size(-1);
  Shape batch = out.shape();
  batch.erase(rank - 1);
  batch.erase(rank - 2);
  const auto batch_strides = [&](const Tensor& x) {
    Strides strides = x.strides();
    strides.erase(rank - 1);
    strides.erase(rank - 2);
    return strides;
  };
  const Strides a_strides = batch_strides(a), b_strides = batch_strides(b);
  const Tensor sum_bias =
      bias.defined() ? contiguous(cast(bias, accumulate_dtype(out.dtype()))) : Tensor();
  const auto one = [&](int64_t index) {
    tendril::cpu::GemmOutput c{
        static_cast<char*>(out.raw_data()) + index * M * N * size_of(out.dtype()), out.dtype(), N};
    if (bias.defined()) c.bias = sum_bias.raw_data();
    tendril::cpu::gemm(M, N, K, matrix(a, offset_of(index, batch, a_strides)),
                       matrix(b, offset_of(index, batch, b_strides)), c);
  };
  // Small products run side by side, large ones one after the other on all threads.
  const int64_t count = batch.numel();
  constexpr int64_t kLargeProduct = int64_t{1} << 24;
  if (count > 1 && M * N * K < kLargeProduct) {
    parallel_for(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) one(i);
    });
  } else {
    for (int64_t i = 0; i < count; ++i) one(i);
  }
}

}  // namespace cpu

namespace cuda {
void matmul(const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& out);  // matmul.cu
}

namespace {

void require_matrix_dtype(const char* op, const Tensor& x) {
  TENDRIL_CHECK(is_floating(x.dtype()), "[", op, "] needs floating-point operands; got ", x.dtype(),
                "; cast it with to(x, f32)");
}

// f64 only multiplies f64: mixed operands are brought to the common dtype first (16-bit ones are
// converted while packing).
Tensor for_product(const Tensor& x, DType dtype) { return dtype == f64 ? cast(x, f64) : x; }

// (B, T, K) x (K, N) is one product with B * T rows.
bool can_fold_rows(const Tensor& a, const Tensor& b) {
  return b.rank() == 2 && a.rank() > 2 && view_strides(a, rows_shape(a));
}

// The shape of `x` with another last axis.
Shape with_last(const Tensor& x, int64_t size) {
  Shape shape = x.shape();
  shape[shape.rank() - 1] = size;
  return shape;
}

Tensor swap_last(const Tensor& x) { return transpose(x, -2, -1); }

}  // namespace

namespace {

// matmul, with a bias (N) added to every row.
Tensor product(const Tensor& a, const Tensor& b, const Tensor& bias, DType dtype) {
  TENDRIL_CHECK(a.rank() >= 2 && b.rank() >= 2,
                "[matmul] needs matrices or batches of matrices; got shapes ", a.shape(), " and ",
                b.shape());
  require_matrix_dtype("matmul", a);
  require_matrix_dtype("matmul", b);
  require_same_device("matmul", a, b);
  TENDRIL_CHECK(a.size(-1) == b.size(-2), "[matmul] the inner sizes differ; got ", a.shape(), " x ",
                b.shape(), ": ", a.size(-1), " columns and ", b.size(-2), " rows");
  if (can_fold_rows(a, b))
    return reshape(product(as_rows(a), b, bias, dtype), with_last(a, b.size(-1)));
  const auto batch_of = [](const Tensor& x) {
    Shape shape = x.shape();
    shape.erase(shape.rank() - 1);
    shape.erase(shape.rank() - 1);
    return shape;
  };
  const Shape batch = broadcast_shapes("matmul", batch_of(a), batch_of(b));
  const auto expanded = [&](const Tensor& x) {
    Shape shape = batch;
    shape.push_back(x.size(-2));
    shape.push_back(x.size(-1));
    return expand(for_product(x, dtype), shape);
  };
  Shape shape = batch;
  shape.push_back(a.size(-2));
  shape.push_back(b.size(-1));
  Tensor out = Tensor::empty(shape, dtype, a.device());
  TENDRIL_ON_DEVICE(a, matmul(expanded(a), expanded(b), bias, out));
  return out;
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  return product(a, b, {}, promote(a.dtype(), b.dtype()));
}

// The sums are f32 whatever the operands: a gradient wanted in f32 is not rounded to their dtype on
// the way.
Tensor gradient_product(const Tensor& a, const Tensor& b, DType wanted) {
  return product(a, b, {}, promote(promote(a.dtype(), b.dtype()), wanted));
}

Tensor matmul_backward_a(const Tensor& g, const Tensor& b, const Shape& a_shape, DType a_dtype) {
  return cast(sum_to(gradient_product(g, swap_last(b), a_dtype), a_shape), a_dtype);
}

Tensor matmul_backward_b(const Tensor& g, const Tensor& a, const Shape& b_shape, DType b_dtype) {
  if (b_shape.rank() == 2 && a.rank() > 2) {  // the sum over the batch is part of the product
    return cast(gradient_product(swap_last(as_rows(a)), as_rows(g), b_dtype), b_dtype);
  }
  return cast(sum_to(gradient_product(swap_last(a), g, b_dtype), b_shape), b_dtype);
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  TENDRIL_CHECK(x.rank() >= 1 && weight.rank() == 2 && x.size(-1) == weight.size(1),
                "[linear] needs x (..., in) and weight (out, in); got ", x.shape(), " and ",
                weight.shape());
  if (bias.defined()) {
    TENDRIL_CHECK(bias.shape() == Shape{weight.size(0)}, "[linear] the bias must be (out) = (",
                  weight.size(0), ",); got ", bias.shape());
    require_same_device("linear", x, bias);
  }
  DType dtype = promote(x.dtype(), weight.dtype());
  if (bias.defined()) dtype = promote(dtype, bias.dtype());
  return reshape(product(as_rows(x), swap_last(weight), bias, dtype), with_last(x, weight.size(0)));
}

Tensor linear_backward_x(const Tensor& g, const Tensor& weight, DType dtype) {
  const Tensor dx = gradient_product(as_rows(g), weight, dtype);
  return cast(reshape(dx, with_last(g, weight.size(1))), dtype);
}

Tensor linear_backward_weight(const Tensor& g, const Tensor& x, DType dtype, bool column_major) {
  if (column_major) return swap_last(linear_backward_weight(x, g, dtype));
  return cast(gradient_product(swap_last(as_rows(g)), as_rows(x), dtype), dtype);
}

}  // namespace tendril::ops
