#include <algorithm>
#include <string>

#include <tendril/autograd/autocast.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/flops.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/matmul.h>
#include <tendril/core/ops/reduce.h>

namespace tendril {
namespace {

// What a gradient needs is saved only when that gradient is wanted.
Tensor if_needed(bool needed, const Tensor& x) { return needed ? x : Tensor(); }

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  if (a.rank() == 1 && b.rank() >= 1)
    return squeeze(matmul(unsqueeze(a, 0), b), b.rank() == 1 ? -1 : -2);
  if (b.rank() == 1 && a.rank() >= 2) return squeeze(matmul(a, unsqueeze(b, 1)), -1);
  const OpTimer timer;
  const auto [left, right] = detail::autocast_narrow(a, b);
  const Tensor y = ops::matmul(left, right);
  timer.flops([&] { return ops::product_flops(y, a.size(-1)); });
  return record(
      Op::matmul, y, {a, b},
      [a = Saved(if_needed(b.requires_grad(), left)),
       b = Saved(if_needed(a.requires_grad(), right)), a_shape = a.shape(), b_shape = b.shape(),
       a_dtype = a.dtype(), b_dtype = b.dtype()](const Tensor& g, Gradients& in) {
        if (in.needs(0)) in.set(0, ops::matmul_backward_a(g, b, a_shape, a_dtype));
        if (in.needs(1)) in.set(1, ops::matmul_backward_b(g, a, b_shape, b_dtype));
      });
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const OpTimer timer;
  const auto [rows, matrix, offsets] = detail::autocast_narrow(x, weight, bias);
  const Tensor y = ops::linear(rows, matrix, offsets);
  timer.flops([&] { return ops::product_flops(y, x.size(-1)); });
  return record(Op::linear, y, {x, weight, bias},
                [x = Saved(if_needed(weight.requires_grad(), rows)),
                 weight = Saved(if_needed(x.requires_grad(), matrix)), x_dtype = x.dtype(),
                 weight_dtype = weight.dtype(), column_major = ops::is_column_major(weight),
                 bias_shape = bias.defined() ? bias.shape() : Shape(),
                 bias_dtype = bias.defined() ? bias.dtype() : f32](const Tensor& g, Gradients& in) {
                  if (in.needs(0)) in.set(0, ops::linear_backward_x(g, weight, x_dtype));
                  if (in.needs(1))
                    in.set(1, ops::linear_backward_weight(g, x, weight_dtype, column_major));
                  if (in.needs(2)) in.set(2, ops::cast(ops::sum_to(g, bias_shape), bias_dtype));
                });
}

Tensor einsum(const std::string& equation, const Tensor& a, const Tensor& b) {
  if (!b.defined() &&
      equation.find(',') == std::string::npos) {  // one operand: its product with the number 1
    std::string product = equation;
    product.insert(std::min(product.find("->"), product.size()), ",");
    return einsum(product, a, ones({}, a.dtype(), a.device()));
  }
  const OpTimer timer;
  const auto [left, right] = detail::autocast_narrow(a, b);
  const Tensor y = ops::einsum(equation, left, right);
  timer.flops([&] { return ops::einsum_flops(equation, a, b); });
  return record(
      Op::einsum, y, {a, b},
      [equation, a = Saved(if_needed(b.requires_grad(), left)),
       b = Saved(if_needed(a.requires_grad(), right)), a_shape = a.shape(), b_shape = b.shape(),
       a_dtype = a.dtype(), b_dtype = b.dtype()](const Tensor& g, Gradients& in) {
        if (in.needs(0))
          in.set(0, ops::cast(ops::einsum_backward(equation, 0, g, b, a_shape), a_dtype));
        if (in.needs(1))
          in.set(1, ops::cast(ops::einsum_backward(equation, 1, g, a, b_shape), b_dtype));
      });
}

}  // namespace tendril
