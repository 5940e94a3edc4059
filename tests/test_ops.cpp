// The gate: walks ops.def and holds every op to what op_cases.h says.

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include <tendril/autograd/gradcheck.h>
#include <tendril/autograd/node.h>
#include <tendril/tendril.h>

#include "op_harness.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

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
