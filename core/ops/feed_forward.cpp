#include <tendril/core/ops/feed_forward.h>

#include <algorithm>

#include <tendril/core/cpu/block.h>
#include <tendril/core/cpu/gemm.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/inplace.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/matmul.h>
#include <tendril/core/ops/pointwise_kernels.h>
#include <tendril/core/ops/reduce.h>

namespace tendril::ops {
namespace {

// What an activation's derivative is a function of.
enum class Saves { Nothing, Input, Output };

Saves saves(Op activation) {
  switch (activation) {
#define UNARY(op, F, kind, saves, ...) \
  case Op::op:                         \
    return Saves::saves;
#include <tendril/core/ops/ops.def>
    default:
      fail(
          "[feed_forward] the activation must be a differentiable unary operation without "
          "parameters, such as gelu, silu or relu; got ",
          name(activation));
  }
}

}  // namespace

namespace cpu {
namespace {

using tendril::cpu::BlockFunction;
using tendril::cpu::BlockReader;
using tendril::cpu::kBlock;
using tendril::cpu::MatrixView;
using tendril::cpu::Part;

template <class C>
BlockFunction<C> function_of(Op activation, Part part) {
  const auto kernel = TENDRIL_ISA_CALL(pointwise_kernel(activation, part));
  if constexpr (std::is_same_v<C, double>)
    return kernel.f64;
  else
    return kernel.f32;
}

// Walks the rows of a finished block in runs that fit a buffer.
template <class C>
class RunHook : public tendril::cpu::BlockHook {
 public:
  explicit RunHook(int64_t columns) : columns_(columns) {}

  void run(int64_t row, int64_t column, int64_t rows, int64_t columns) const final {
    for (int64_t i = row; i < row + rows; ++i)
      for (int64_t j = 0; j < columns; j += kBlock)
        run_at(i * columns_ + column + j, std::min(kBlock, columns - j));
  }

 private:
  // `n` elements from row-major position `at`.
  virtual void run_at(int64_t at, int64_t n) const = 0;

  int64_t columns_;
};

// a = f(u), or f(z) u; a may be u itself.
template <class C>
class ActivateHook final : public RunHook<C> {
 public:
  ActivateHook(Op activation, const Tensor& u, const Tensor& z, const Tensor& a)
      : RunHook<C>(u.size(1)),
        value_(function_of<C>(activation, Part::value)),
        multiply_(function_of<C>(Op::mul, Part::value)),
        gated_(z.defined()),
        u_(u, u.shape()),
        a_(a) {
    if (gated_) z_ = BlockReader(z, z.shape());
  }

 private:
  void run_at(int64_t at, int64_t n) const override {
    alignas(64) C u_buffer[kBlock], z_buffer[kBlock], result[kBlock];
    C* a = tendril::cpu::block_target(a_, at, result);
    const C* u = u_.template read<C>(at, n, u_buffer);
    if (gated_) {
      const C* z = z_.template read<C>(at, n, z_buffer);
      value_(n, &z, z_buffer, 0.0);
      const C* factors[] = {z_buffer, u};
      multiply_(n, factors, a, 0.0);
    } else {
      value_(n, &u, a, 0.0);
    }
    tendril::cpu::write_block(a_, at, n, a);
  }

  BlockFunction<C> value_, multiply_;
  bool gated_;
  BlockReader u_, z_;
  const Tensor& a_;
};

// From da: a once more, du in the place of da, and dz.
template <class C>
class DerivativeHook final : public RunHook<C> {
 public:
  DerivativeHook(Op activation, const Tensor& u, const Tensor& z, const Tensor& a, const Tensor& du,
                 const Tensor& dz)
      : RunHook<C>(u.size(1)),
        value_(function_of<C>(activation, Part::value)),
        grad_(function_of<C>(activation, Part::grad)),
        multiply_(function_of<C>(Op::mul, Part::value)),
        grad_uses_output_(saves(activation) == Saves::Output),
        gated_(z.defined()),
        u_(u, u.shape()),
        da_(du, du.shape()),
        a_(a),
        du_(du),
        dz_(dz) {
    if (gated_) z_ = BlockReader(z, z.shape());
  }

 private:
  void run_at(int64_t at, int64_t n) const override {
    alignas(64) C u_buffer[kBlock], z_buffer[kBlock], da_buffer[kBlock];
    const C* u = u_.template read<C>(at, n, u_buffer);
    const C* da = da_.template read<C>(at, n, da_buffer);
    if (gated_)
      gated(at, n, u, z_.template read<C>(at, n, z_buffer), da);
    else
      plain(at, n, u, da);
  }

  void plain(int64_t at, int64_t n, const C* u, const C* da) const {
    alignas(64) C a_buffer[kBlock], du_buffer[kBlock];
    C* a = tendril::cpu::block_target(a_, at, a_buffer);
    C* du = tendril::cpu::block_target(du_, at, du_buffer);  // may be da
    value_(n, &u, a, 0.0);
    derivative(n, u, a, da, du);
    tendril::cpu::write_block(a_, at, n, a);
    tendril::cpu::write_block(du_, at, n, du);
  }

  void gated(int64_t at, int64_t n, const C* u, const C* z, const C* da) const {
    alignas(64) C f[kBlock], a[kBlock], product[kBlock], dz[kBlock];
    value_(n, &z, f, 0.0);
    times(n, f, u, a);
    times(n, da, u, product);
    derivative(n, z, f, product, dz);
    times(n, da, f, product);
    tendril::cpu::write_block(a_, at, n, a);
    tendril::cpu::write_block(dz_, at, n, dz);
    tendril::cpu::write_block(du_, at, n, product);
  }

  // g f'(x), where y = f(x)
  void derivative(int64_t n, const C* x, const C* y, const C* g, C* out) const {
    const C* in[] = {grad_uses_output_ ? y : x, g};
    grad_(n, in, out, 0.0);
  }

  void times(int64_t n, const C* x, const C* y, C* out) const {
    const C* in[] = {x, y};
    multiply_(n, in, out, 0.0);
  }

  BlockFunction<C> value_, grad_, multiply_;
  bool grad_uses_output_, gated_;
  BlockReader u_, z_, da_;
  const Tensor &a_, &du_, &dz_;
};

MatrixView view(const Tensor& x) {
  return {x.raw_data(), x.dtype(), x.strides()[0], x.strides()[1]};
}

// Dense out = x weight + bias; the hook may be null.
void multiply(const Tensor& x, const MatrixView& weight, const Tensor& bias, const Tensor& out,
              const tendril::cpu::BlockHook* hook) {
  const Tensor sum_bias =
      bias.defined() ? contiguous(cast(bias, accumulate_dtype(out.dtype()))) : Tensor();
  tendril::cpu::gemm(out.size(0), out.size(1), x.size(1), view(x), weight,
                     {.data = out.raw_data(),
                      .dtype = out.dtype(),
                      .row_stride = out.size(1),
                      .bias = bias.defined() ? sum_bias.raw_data() : nullptr,
                      .after_block = hook});
}

// u (and z) from the rows of x; a = what the activation makes of them.
void activate(const Tensor& x, const FeedForwardWeights& w, Op activation, const Tensor& u,
              const Tensor& z, const Tensor& a) {
  if (z.defined()) multiply(x, view(w.gate).transposed(), w.gate_bias, z, nullptr);
  const auto run = [&]<class C>(TypeTag<C>) {
    const ActivateHook<C> hook(activation, u, z, a);
    multiply(x, view(w.up).transposed(), w.up_bias, u, &hook);
  };
  u.dtype() == f64 ? run(TypeTag<double>{}) : run(TypeTag<float>{});
}

// du (and dz) from the rows of g, and a; the sum of du's rows where that comes for free: not here.
Tensor derive(const Tensor& g, const FeedForwardWeights& w, Op activation, const Tensor& u,
              const Tensor& z, const Tensor& a, const Tensor& du, const Tensor& dz, bool) {
  const auto run = [&]<class C>(TypeTag<C>) {
    const DerivativeHook<C> hook(activation, u, z, a, du, dz);
    multiply(g, view(w.down), {}, du, &hook);
  };
  u.dtype() == f64 ? run(TypeTag<double>{}) : run(TypeTag<float>{});
  return {};
}

}  // namespace
}  // namespace cpu

namespace cuda {  // feed_forward.cu
void activate(const Tensor& x, const FeedForwardWeights& w, Op activation, const Tensor& u,
              const Tensor& z, const Tensor& a);
Tensor derive(const Tensor& g, const FeedForwardWeights& w, Op activation, const Tensor& u,
              const Tensor& z, const Tensor& a, const Tensor& du, const Tensor& dz,
              bool wants_row_sum);
}  // namespace cuda

namespace {

constexpr const char* kName = "feed_forward";

void check_weight(const char* which, const Tensor& weight, int64_t in, const Tensor& bias) {
  TENDRIL_CHECK(weight.rank() == 2 && weight.size(1) == in && is_floating(weight.dtype()), "[",
                kName, "] ", which, " must be floating-point (out, in) with in = ", in, "; got ",
                weight.dtype(), " ", weight.shape());
  TENDRIL_CHECK(
      !bias.defined() || (bias.shape() == Shape{weight.size(0)} && is_floating(bias.dtype())), "[",
      kName, "] ", which, "_bias must be floating-point (out) = (", weight.size(0), ",); got ",
      bias.defined() ? bias.shape() : Shape());
}

// The dtype in which everything but the sums is held.
DType checked_dtype(const Tensor& x, const FeedForwardWeights& w, Op activation) {
  saves(activation);
  TENDRIL_CHECK(x.rank() >= 1 && is_floating(x.dtype()), "[", kName,
                "] needs floating-point x (..., C); got ", x.dtype(), " ", x.shape());
  check_weight("up", w.up, x.size(-1), w.up_bias);
  check_weight("down", w.down, w.up.size(0), w.down_bias);
  if (w.gate.defined()) {
    check_weight("gate", w.gate, x.size(-1), w.gate_bias);
    TENDRIL_CHECK(w.gate.size(0) == w.up.size(0), "[", kName,
                  "] gate and up must have one shape; got ", w.gate.shape(), " and ", w.up.shape());
  }
  TENDRIL_CHECK(w.gate.defined() || !w.gate_bias.defined(), "[", kName,
                "] got a gate_bias without a gate");
  require_same_device(kName, x, w.up, w.up_bias, w.down, w.down_bias, w.gate, w.gate_bias);
  DType dtype = x.dtype();
  for (const Tensor* t : {&w.up, &w.up_bias, &w.down, &w.down_bias, &w.gate, &w.gate_bias})
    if (t->defined()) dtype = promote(dtype, t->dtype());
  return dtype;
}

// f64 multiplies only f64; what is narrower than f32 is converted while it is multiplied.
Tensor operand(const Tensor& x, DType dtype) {
  return dtype == f64 && x.defined() ? cast(x, f64) : x;
}

FeedForwardWeights operands(const FeedForwardWeights& w, DType dtype) {
  return {operand(w.up, dtype),        operand(w.up_bias, dtype), operand(w.down, dtype),
          operand(w.down_bias, dtype), operand(w.gate, dtype),    operand(w.gate_bias, dtype)};
}

Tensor weight_gradient(const Tensor& g, const Tensor& x, const Tensor& weight,
                       const FeedForwardWanted& wanted) {
  return linear_backward_weight(g, x, wanted.dtype.value_or(weight.dtype()),
                                is_column_major(weight));
}

Tensor bias_gradient(const Tensor& g, const Tensor& bias) {
  return cast(sum_to(g, bias.shape()), bias.dtype());
}

}  // namespace

FeedForwardResult feed_forward(const Tensor& x, const FeedForwardWeights& weights, Op activation,
                               bool keep_sums) {
  const DType dtype = checked_dtype(x, weights, activation);
  const FeedForwardWeights w = operands(weights, dtype);
  const Tensor rows = operand(as_rows(x), dtype);
  const auto hidden = [&] {
    return Tensor::empty({rows.size(0), w.up.size(0)}, dtype, x.device());
  };
  const Tensor u = hidden(), z = w.gate.defined() ? hidden() : Tensor();
  const Tensor a = keep_sums ? hidden() : u;
  TENDRIL_ON_DEVICE(x, activate(rows, w, activation, u, z, a));
  Shape shape = x.shape();
  shape[shape.rank() - 1] = w.down.size(0);
  const Tensor y = cast(reshape(linear(a, w.down, w.down_bias), shape), dtype);
  return keep_sums ? FeedForwardResult{y, u, z} : FeedForwardResult{y, {}, {}};
}

FeedForwardGradients feed_forward_backward(const Tensor& g, const Tensor& x,
                                           const FeedForwardWeights& weights,
                                           const FeedForwardResult& saved, Op activation,
                                           const FeedForwardWanted& wanted) {
  const DType dtype = saved.sums.dtype();
  const FeedForwardWeights w = operands(weights, dtype);
  const Tensor rows = operand(as_rows(x), dtype), g_rows = as_rows(g);
  const auto hidden = [&] { return Tensor::empty(saved.sums.shape(), dtype, x.device()); };
  Tensor a = hidden();
  const Tensor du = hidden(), dz = w.gate.defined() ? hidden() : Tensor();
  const Tensor du_sum = TENDRIL_ON_DEVICE(
      x, derive(g_rows, w, activation, saved.sums, saved.gate_sums, a, du, dz, wanted.up_bias));
  FeedForwardGradients d;
  if (wanted.down) d.weights.down = weight_gradient(g_rows, a, weights.down, wanted);
  if (wanted.down_bias) d.weights.down_bias = bias_gradient(g_rows, weights.down_bias);
  a = {};
  if (wanted.up) d.weights.up = weight_gradient(du, rows, weights.up, wanted);
  if (wanted.up_bias)
    d.weights.up_bias = du_sum.defined() ? cast(du_sum, weights.up_bias.dtype())
                                         : bias_gradient(du, weights.up_bias);
  if (wanted.gate) d.weights.gate = weight_gradient(dz, rows, weights.gate, wanted);
  if (wanted.gate_bias) d.weights.gate_bias = bias_gradient(dz, weights.gate_bias);
  if (wanted.x) {
    const DType sums = wanted.dtype.value_or(dtype);
    d.x = linear_backward_x(du, w.up, sums);
    if (dz.defined()) add_in_place(d.x, linear_backward_x(dz, w.gate, sums), 1.0);
    d.x = cast(reshape(d.x, x.shape()), wanted.dtype.value_or(x.dtype()));
  }
  return d;
}

}  // namespace tendril::ops
