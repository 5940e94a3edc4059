// Pointwise ops: every row of ops.def becomes its public function and tape rule here.

#include <tendril/autograd/autocast.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/functors.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/core/ops/reduce.h>

namespace tendril {
namespace {

enum class Saves { Nothing, Input, Output };

// Functions whose results 16 bits of an argument do not determine well enough: autocast computes
// them in f32.
bool runs_wide(Op op) {
  return op == Op::exp || op == Op::expm1 || op == Op::log || op == Op::log1p || op == Op::rsqrt ||
         op == Op::reciprocal || op == Op::softplus || op == Op::pow;
}

Tensor operand(Op op, const Tensor& x) { return runs_wide(op) ? detail::autocast_wide(x) : x; }

Tensor unary_rule(Op op, Saves saves, const Tensor& input, double parameter = 0.0) {
  const Tensor x = operand(op, input);
  const OpTimer timer;
  const Tensor y = ops::unary(op, x, parameter);
  const Tensor kept = saves == Saves::Input ? x : saves == Saves::Output ? y : Tensor();
  return record(op, y, {x}, [op, s = Saved(kept), parameter](const Tensor& g, Gradients& in) {
    in.set(0, ops::unary_backward(op, s, g, parameter));
  });
}

// Undoes broadcasting and promotion.
Tensor like_input(const Tensor& g, const Shape& shape, DType dtype) {
  return ops::cast(ops::sum_to(g, shape), dtype);
}

Tensor only_if(bool condition, const Tensor& x) { return condition ? x : Tensor(); }

template <class F>
Tensor binary_rule(Op op, const Tensor& left, const Tensor& right) {
  const Tensor a = operand(op, left), b = operand(op, right);
  const OpTimer timer;
  const Tensor y = ops::binary(op, a, b);
  const unsigned uses = (a.requires_grad() ? F::a_uses : 0u) | (b.requires_grad() ? F::b_uses : 0u);
  return record(
      op, y, {a, b},
      [op, a = Saved(only_if(uses & ops::kUsesA, a)), b = Saved(only_if(uses & ops::kUsesB, b)),
       a_shape = a.shape(), b_shape = b.shape(), a_dtype = a.dtype(),
       b_dtype = b.dtype()](const Tensor& g, Gradients& in) {
        if (in.needs(0)) {
          const Tensor grad =
              op == Op::add || op == Op::sub ? g : ops::binary_backward_a(op, a, b.get(), g);
          in.set(0, like_input(grad, a_shape, a_dtype));
        }
        if (in.needs(1)) {
          const Tensor grad = op == Op::add ? g : ops::binary_backward_b(op, a.get(), b, g);
          in.set(1, like_input(grad, b_shape, b_dtype));
        }
      });
}

template <class F>
Tensor binary_rule(Op op, const Tensor& left, double b) {
  const Tensor a = operand(op, left);
  const OpTimer timer;
  const Tensor y = ops::binary(op, a, b);
  return record(
      op, y, {a},
      [op, b, a = Saved(only_if(F::a_uses & ops::kUsesA, a))](const Tensor& g, Gradients& in) {
        in.set(0, ops::binary_backward_a(op, a, b, g));
      });
}

template <class F>
Tensor binary_rule(Op op, double a, const Tensor& right) {
  const Tensor b = operand(op, right);
  const OpTimer timer;
  const Tensor y = ops::binary(op, a, b);
  return record(
      op, y, {b},
      [op, a, b = Saved(only_if(F::b_uses & ops::kUsesB, b))](const Tensor& g, Gradients& in) {
        in.set(0, ops::binary_backward_b(op, a, b, g));
      });
}

}  // namespace

#define UNARY(op, F, kind, saves, ...) \
  Tensor op(const Tensor& x) { return unary_rule(Op::op, Saves::saves, x); }
#define UNARY1(op, F, kind, saves, low, high, ...)         \
  Tensor op(const Tensor& x, double parameter) {           \
    return unary_rule(Op::op, Saves::saves, x, parameter); \
  }
#define UNARY_NONDIFF(op, ...)                                 \
  Tensor op(const Tensor& x) {                                 \
    const OpTimer timer;                                       \
    return record_nondiff(Op::op, ops::unary(Op::op, x), {x}); \
  }
#define BINARY(op, F, ...)                                                                  \
  Tensor op(const Tensor& a, const Tensor& b) { return binary_rule<ops::F>(Op::op, a, b); } \
  Tensor op(const Tensor& a, double b) { return binary_rule<ops::F>(Op::op, a, b); }        \
  Tensor op(double a, const Tensor& b) { return binary_rule<ops::F>(Op::op, a, b); }
#define COMPARE(op, ...)                                               \
  Tensor op(const Tensor& a, const Tensor& b) {                        \
    const OpTimer timer;                                               \
    return record_nondiff(Op::op, ops::compare(Op::op, a, b), {a, b}); \
  }                                                                    \
  Tensor op(const Tensor& a, double b) {                               \
    const OpTimer timer;                                               \
    return record_nondiff(Op::op, ops::compare(Op::op, a, b), {a});    \
  }
#include <tendril/core/ops/ops.def>

Tensor clamp(const Tensor& x, double low, double high) {
  TENDRIL_CHECK(low <= high, "[clamp] the lower bound must not exceed the upper one; got ", low,
                " and ", high);
  return clamp_max(clamp_min(x, low), high);
}

Tensor logical_not(const Tensor& x) {
  const OpTimer timer;
  return record_nondiff(Op::logical_not, ops::logical_not(x), {x});
}

Tensor isfinite(const Tensor& x) {
  const OpTimer timer;
  return record_nondiff(Op::isfinite, ops::isfinite(x), {x});
}

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  const OpTimer timer;
  const Tensor y = ops::where(condition, a, b);
  return record(Op::where, y, {a, b},
                [condition = Saved(condition), a_shape = a.shape(), b_shape = b.shape(),
                 a_dtype = a.dtype(), b_dtype = b.dtype()](const Tensor& g, Gradients& in) {
                  if (in.needs(0))
                    in.set(0, like_input(ops::where(condition, g, 0.0), a_shape, a_dtype));
                  if (in.needs(1))
                    in.set(1, like_input(ops::where(condition, 0.0, g), b_shape, b_dtype));
                });
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, double value) {
  TENDRIL_CHECK(broadcast_shapes("masked_fill", x.shape(), mask.shape()) == x.shape(),
                "[masked_fill] the mask ", mask.shape(), " must broadcast to the tensor ",
                x.shape());
  TENDRIL_CHECK(mask.dtype() == bool_, "[masked_fill] the mask must be bool; got ", mask.dtype(),
                "; compare it, e.g. ne(mask, 0)");
  const OpTimer timer;
  const Tensor y = ops::where(mask, value, x);
  return record(Op::masked_fill, y, {x}, [mask = Saved(mask)](const Tensor& g, Gradients& in) {
    in.set(0, ops::where(mask, 0.0, g));
  });
}

}  // namespace tendril
