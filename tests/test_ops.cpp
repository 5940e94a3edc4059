// The gate: walks ops.def and holds every op to what op_cases.h says.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include <tendril/autograd/gradcheck.h>
#include <tendril/autograd/node.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/tendril.h>

#include "op_cases.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

using Inputs = std::vector<Tensor>;

// ------------------------------------------------------------------ cases

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

// ------------------------------------------------------------------ inputs

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

bool takes_grad(const OpCase& one) {
  return std::any_of(one.inputs.begin(), one.inputs.end(),
                     [](const OpInput& input) { return takes_grad(input); });
}

Inputs make_inputs(const OpCase& one, DType dtype, bool with_grad) {
  Inputs inputs;
  uint64_t seed = 7;
  for (const OpInput& input : one.inputs) {
    ++seed;
    Tensor x = input.value.defined() ? input.value.detach() : random_values(input, seed);
    if (is_floating(x.dtype())) x = to(x, dtype);
    if (with_grad && takes_grad(input)) x.requires_grad_();
    inputs.push_back(x);
  }
  return inputs;
}

// The same numbers in reversed-axes storage with a gap between elements.
Tensor strided_copy(const Tensor& x) {
  Shape reversed;
  for (int64_t axis = x.rank() - 1; axis >= 0; --axis) reversed.push_back(axis);
  Shape wide = permute(x.detach(), reversed).shape();
  wide.push_back(2);
  const Tensor storage = full(wide, 3.0, x.dtype());
  Tensor view = select(storage, -1, 1);
  view = permute(view, reversed);
  copy_(view, x.detach());
  if (x.requires_grad()) view.requires_grad_();
  return view;
}

std::vector<double> numbers(const Tensor& x) { return x.detach().to_vector<double>(); }

bool same_bits(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  const Tensor x = contiguous(a.detach()), y = contiguous(b.detach());
  return x.shape() == y.shape() && x.dtype() == y.dtype() &&
         std::memcmp(x.raw_data(), y.raw_data(), static_cast<size_t>(x.nbytes())) == 0;
}

struct Outcome {
  Tensor output;
  Inputs grads;
};

Outcome run_both_ways(const OpCase& one, const Inputs& inputs) {
  Outcome outcome{one.run(inputs), {}};
  if (!differentiable(one)) return outcome;
  const Tensor weights =
      to(rand(outcome.output.shape(), f64, RandomKey{3, 0, Stream::noise}), outcome.output.dtype());
  Inputs wanted;
  for (const Tensor& input : inputs)
    if (input.requires_grad()) wanted.push_back(input);
  outcome.grads = grad({outcome.output}, wanted, {weights}, {}, true);
  return outcome;
}

double largest(const std::vector<double>& values) {
  double result = 0.0;
  for (double value : values)
    if (std::isfinite(value)) result = std::max(result, std::fabs(value));
  return result;
}

// Largest difference relative to the largest number.
double difference(const Tensor& a, const Tensor& b) {
  if (a.defined() != b.defined()) return INFINITY;
  if (!a.defined()) return 0.0;
  const std::vector<double> x = numbers(a), y = numbers(b);
  if (a.shape() != b.shape()) return INFINITY;
  const double scale = std::max(largest(y), 1e-30);
  double worst = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    const double error = std::fabs(x[i] - y[i]) / scale;
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

bool graph_contains(const std::shared_ptr<detail::Node>& node, Op op,
                    std::set<const detail::Node*>& seen) {
  if (!node || !seen.insert(node.get()).second) return false;
  if (node->op == op) return true;
  return std::any_of(node->inputs.begin(), node->inputs.end(),
                     [&](const detail::Edge& edge) { return graph_contains(edge.node, op, seen); });
}

}  // namespace

TEST_SUITE("ops") {
  TEST_CASE("every op of the list has a case, its case runs it, and the profiler sees it") {
    ProfilerScope profile;
    std::set<Op> recorded;  // found on the tape of one of its own cases
    for (const OpCase& one : all_cases()) {
      CAPTURE(one.label);
      Inputs inputs = make_inputs(one, f64, true);
      if (one.op == Op::contiguous)
        inputs[0] = strided_copy(inputs[0]);  // of a dense tensor it does nothing
      const Tensor output = one.run(inputs);
      if (!takes_grad(one)) {  // an op of indices only
        recorded.insert(one.op);
        continue;
      }
      REQUIRE(output.requires_grad());
      std::set<const detail::Node*> seen;
      if (graph_contains(output.autograd_slot()->node, one.op, seen)) recorded.insert(one.op);
    }
    const Profile report = profile.report();
    for (const OpInfo& op : op_list()) {
      const std::string op_name = op.name;
      CAPTURE(op_name);
      CHECK(recorded.count(op.op) == 1);
      CHECK(report.find(op.name));  // its rule opens with an OpTimer
    }
  }

  TEST_CASE("gradients agree with finite differences in f64") {
    for (const OpCase& one : all_cases()) {
      if (!differentiable(one)) continue;
      CAPTURE(one.label);
      const GradcheckResult result = gradcheck(one.run, make_inputs(one, f64, true));
      CHECK_MESSAGE(result.ok, one.label, ": ", result.message);
    }
  }

  TEST_CASE("strided inputs give the same values and gradients") {
    for (const OpCase& one : all_cases()) {
      CAPTURE(one.label);
      const Inputs dense = make_inputs(one, f64, true);
      Inputs strided;
      for (const Tensor& input : dense) strided.push_back(strided_copy(input));
      const Outcome expected = run_both_ways(one, dense), got = run_both_ways(one, strided);
      CHECK(difference(got.output, expected.output) <= 1e-12);
      for (size_t i = 0; i < expected.grads.size(); ++i)
        CHECK(difference(got.grads[i], expected.grads[i]) <= 1e-12);
    }
  }

  TEST_CASE("bf16 and f16 agree with f32 within their rounding") {
    for (const OpCase& one : all_cases()) {
      if (!one.half || !differentiable(one)) continue;
      for (const auto& [dtype, epsilon] : {std::pair{bf16, 0x1p-8}, std::pair{f16, 0x1p-11}}) {
        CAPTURE(one.label);
        const std::string dtype_name = name(dtype);
        CAPTURE(dtype_name);
        const Inputs half = make_inputs(one, dtype, true);
        Inputs single;
        for (const Tensor& input : half) {
          Tensor x = is_floating(input.dtype()) ? to(input.detach(), f32) : input;
          if (input.requires_grad()) x.requires_grad_();
          single.push_back(x);
        }
        const Outcome expected = run_both_ways(one, single), got = run_both_ways(one, half);
        CHECK(difference(got.output, expected.output) <= one.half_tolerance * epsilon);
        // The saved tensors, the incoming gradient and the result are each rounded once.
        for (size_t i = 0; i < expected.grads.size(); ++i)
          CHECK(difference(got.grads[i], expected.grads[i]) <= 3 * one.half_tolerance * epsilon);
      }
    }
  }

  TEST_CASE("the same bits on every run and every thread count") {
    const int before = num_threads();
    for (const OpCase& one : all_cases()) {
      CAPTURE(one.label);
      const Inputs inputs = make_inputs(one, f32, true);
      set_num_threads(1);
      const Outcome expected = run_both_ways(one, inputs);
      for (int threads : {1, 2, 4}) {
        set_num_threads(threads);
        const Outcome got = run_both_ways(one, inputs);
        CHECK(same_bits(got.output, expected.output));
        for (size_t i = 0; i < expected.grads.size(); ++i)
          CHECK(same_bits(got.grads[i], expected.grads[i]));
      }
    }
    set_num_threads(before);
  }

  TEST_CASE("a gradient that reaches a non-differentiable op throws with its name") {
    for (const OpCase& one : all_cases()) {
      if (differentiable(one)) continue;
      CAPTURE(one.label);
      const Tensor output = one.run(make_inputs(one, f64, true));
      CHECK(output.requires_grad() == takes_grad(one));  // false when only indices go in
      if (!takes_grad(one)) continue;
      const Tensor loss = sum(to(output, f64));
      std::string message;
      try {
        loss.backward();
      } catch (const Error& error) {
        message = error.what();
      }
      CHECK(message.find(std::string("[") + name(one.op) + "]") != std::string::npos);
      CHECK(message.find("not differentiable") != std::string::npos);
    }
  }

  TEST_CASE("pointwise ops take empty tensors") {
    for (const OpCase& one : pointwise_cases()) {
      CAPTURE(one.label);
      Inputs inputs;
      for (const OpInput& input : one.inputs) {
        Shape shape = input.shape;
        if (shape.empty()) shape = {1};
        if (shape.back() != 1 || one.inputs.size() == 1) shape[shape.rank() - 1] = 0;
        Tensor x = Tensor::empty(shape, f32);
        x.requires_grad_();
        inputs.push_back(x);
      }
      const Tensor output = one.run(inputs);
      CHECK(output.numel() == 0);
      if (!differentiable(one)) continue;
      const Inputs grads = grad({output}, inputs, {full(output.shape(), 1.0, output.dtype())});
      for (size_t i = 0; i < grads.size(); ++i) CHECK(grads[i].shape() == inputs[i].shape());
    }
  }
}
