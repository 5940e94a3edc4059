#include "op_harness.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <tendril/tendril.h>

namespace tendril::testing {
namespace {

void add_unary(std::vector<OpCase>& cases, Op op, double low, double high,
               Tensor (*function)(const Tensor&)) {
  const auto run = [function](const Inputs& in) { return function(in[0]); };
  cases.push_back({op, name(op), {{{3, 4}, low, high}}, run});
  cases.push_back({op, std::string(name(op)) + " 0-d", {{{}, low, high}}, run});
}

void add_binary(std::vector<OpCase>& cases, Op op, OpInput a, OpInput b,
                Tensor (*function)(const Tensor&, const Tensor&)) {
  const auto run = [function](const Inputs& in) { return function(in[0], in[1]); };
  const auto with = [&](const std::string& label, const Shape& a_shape, const Shape& b_shape) {
    a.shape = a_shape;
    b.shape = b_shape;
    cases.push_back({op, std::string(name(op)) + label, {a, b}, run});
  };
  with("", {3, 4}, {3, 4});
  with(" broadcast rows", {3, 4}, {4});
  with(" broadcast both", {3, 1, 2}, {2, 1});
  with(" scalar tensor", {}, {2, 3});
}

Tensor random_values(const OpInput& input, uint64_t seed) {
  const Tensor uniform = rand(input.shape, f64, RandomKey{seed, 0, Stream::data});
  std::vector<double> values = uniform.to_vector<double>();
  for (double& value : values) {
    value = input.low + value * (input.high - input.low);
    if (std::fabs(value) < 0.05) value = value < 0 && input.low < 0 ? value - 0.05 : value + 0.05;
  }
  return Tensor::from(values, input.shape);
}

bool takes_grad(const OpInput& input) {
  return input.differentiable && (!input.value.defined() || is_floating(input.value.dtype()));
}

double largest(const std::vector<double>& values) {
  double result = 0.0;
  for (double value : values)
    if (std::isfinite(value)) result = std::max(result, std::fabs(value));
  return result;
}

std::vector<double> numbers(const Tensor& x) { return x.detach().to_vector<double>(); }

}  // namespace

std::vector<OpCase> pointwise_cases() {
  std::vector<OpCase> cases;
#define UNARY(op, F, kind, saves, low, high) add_unary(cases, Op::op, low, high, tendril::op);
#define UNARY1(op, F, kind, saves, low, high, parameter)           \
  for (double value : {0.25, 0.0})                                 \
    cases.push_back({Op::op,                                       \
                     std::string(#op " ") + std::to_string(value), \
                     {{{3, 4}, low, high}},                        \
                     [value](const Inputs& in) { return tendril::op(in[0], value); }});
#define UNARY_NONDIFF(op, F, kind, why) add_unary(cases, Op::op, -3, 3, tendril::op);
#define BINARY(op, F, kind, alow, ahigh, blow, bhigh)                                           \
  add_binary(cases, Op::op, {{}, alow, ahigh}, {{}, blow, bhigh}, tendril::op);                 \
  cases.push_back({Op::op, #op " number right", {{{3, 4}, alow, ahigh}}, [](const Inputs& in) { \
                     return tendril::op(in[0], 1.5);                                            \
                   }});                                                                         \
  cases.push_back({Op::op, #op " number left", {{{3, 4}, blow, bhigh}}, [](const Inputs& in) {  \
                     return tendril::op(1.5, in[0]);                                            \
                   }});
#define COMPARE(op, F) add_binary(cases, Op::op, {{}, -2, 2}, {{}, -2, 2}, tendril::op);
#include <tendril/core/ops/ops.def>
  return cases;
}

const std::vector<OpCase>& all_cases() {
  static const std::vector<OpCase> cases = [] {
    std::vector<OpCase> all = pointwise_cases();
    for (auto make :
         {reduce_cases, layout_cases, algebra_cases, layer_cases, attention_cases, loss_cases})
      for (OpCase& one : make()) all.push_back(std::move(one));
    return all;
  }();
  return cases;
}

bool differentiable(const OpCase& one) { return !info(one.op).why_not_differentiable; }

bool takes_grad(const OpCase& one) {
  return std::any_of(one.inputs.begin(), one.inputs.end(),
                     [](const OpInput& input) { return takes_grad(input); });
}

Inputs make_inputs(const OpCase& one, DType dtype, bool with_grad, Device device) {
  Inputs inputs;
  uint64_t seed = 7;
  for (const OpInput& input : one.inputs) {
    ++seed;
    Tensor x = input.value.defined() ? input.value.detach() : random_values(input, seed);
    if (is_floating(x.dtype())) x = to(x, dtype);
    x = to(x, device);
    if (with_grad && takes_grad(input)) x.requires_grad_();
    inputs.push_back(x);
  }
  return inputs;
}

Tensor strided_copy(const Tensor& x) {
  Shape reversed;
  for (int64_t axis = x.rank() - 1; axis >= 0; --axis) reversed.push_back(axis);
  Shape wide = permute(x.detach(), reversed).shape();
  wide.push_back(2);
  const Tensor storage = full(wide, 3.0, x.dtype(), x.device());
  Tensor view = select(storage, -1, 1);
  view = permute(view, reversed);
  copy_(view, x.detach());
  if (x.requires_grad()) view.requires_grad_();
  return view;
}

Outcome run_both_ways(const OpCase& one, const Inputs& inputs) {
  Outcome outcome{one.run(inputs), {}};
  if (!differentiable(one)) return outcome;
  const Tensor& output = outcome.output;
  const Tensor weights =
      to(rand(output.shape(), f64, RandomKey{3, 0, Stream::noise}), output.dtype());
  Inputs wanted;
  for (const Tensor& input : inputs)
    if (input.requires_grad()) wanted.push_back(input);
  outcome.grads = grad({output}, wanted, {to(weights, output.device())}, {}, true);
  return outcome;
}

double difference(const Tensor& a, const Tensor& b) {
  if (a.defined() != b.defined()) return INFINITY;
  if (!a.defined()) return 0.0;
  if (a.shape() != b.shape()) return INFINITY;
  const std::vector<double> x = numbers(a), y = numbers(b);
  const double scale = std::max(largest(y), 1e-30);
  double worst = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    const double error = std::fabs(x[i] - y[i]) / scale;
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  const Tensor x = contiguous(to(a.detach(), Device::cpu()));
  const Tensor y = contiguous(to(b.detach(), Device::cpu()));
  return x.shape() == y.shape() && x.dtype() == y.dtype() &&
         std::memcmp(x.raw_data(), y.raw_data(), static_cast<size_t>(x.nbytes())) == 0;
}

}  // namespace tendril::testing
