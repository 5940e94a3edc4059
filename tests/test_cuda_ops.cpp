// Every case of the op table on a GPU: the CPU's results, strided inputs, the same bits on every
// run.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <tendril/autograd/gradcheck.h>
#include <tendril/tendril.h>

#include "cuda_tools.h"
#include "op_harness.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

const Device kGpu = gpu_under_test();

struct Precision {
  DType dtype;
  double output, gradient;  // largest difference from the CPU, relative to the largest number
};

// Both devices compute 16-bit floats in f32: a result may differ by one unit in the last place
// where the f32 numbers fall on two sides of a rounding border. A gradient is made of a saved
// tensor and an incoming one, and is rounded itself.
Precision precision_of(const OpCase& one, DType dtype) {
  if (dtype == f64) return {f64, 1e-12, 1e-12};
  if (dtype == f32) return {f32, 1e-5, 1e-5};
  const double unit = (dtype == bf16 ? 0x1p-7 : 0x1p-10) * one.half_tolerance;
  return {dtype, unit, 3 * unit};
}

// Ops whose results depend on random bits: those must be the same bits on both devices.
bool draws(Op op) { return op == Op::dropout || op == Op::bernoulli || op == Op::multinomial; }

void compare_with_cpu(const OpCase& one, const Precision& precision) {
  const Outcome expected = run_both_ways(one, make_inputs(one, precision.dtype, true));
  const Outcome got = run_both_ways(one, make_inputs(one, precision.dtype, true, kGpu));
  CHECK(got.output.device() == kGpu);
  CHECK(got.output.dtype() == expected.output.dtype());
  if (draws(one.op) || !is_floating(expected.output.dtype()))
    CHECK_MESSAGE(same_bits(got.output, expected.output), one.label, " ",
                  std::string(name(precision.dtype)));
  const double error = difference(got.output, expected.output);
  CHECK_MESSAGE(error <= precision.output, one.label, " ", std::string(name(precision.dtype)),
                ": output is off by ", error, ", allowed is ", precision.output);
  CHECK(got.grads.size() == expected.grads.size());
  for (size_t i = 0; i < std::min(got.grads.size(), expected.grads.size()); ++i) {
    const double gradient_error = difference(got.grads[i], expected.grads[i]);
    CHECK_MESSAGE(gradient_error <= precision.gradient, one.label, " ",
                  std::string(name(precision.dtype)), ": gradient ", i, " is off by ",
                  gradient_error, ", allowed is ", precision.gradient);
  }
}

bool has_gradcheck(const OpCase& one) {
  static const std::set<Op> kStructured = {Op::matmul,     Op::softmax,
                                           Op::layer_norm, Op::feed_forward,
                                           Op::embedding,  Op::scaled_dot_product_attention,
                                           Op::linear,     Op::linear_cross_entropy,
                                           Op::sort,       Op::scatter_add,
                                           Op::logsumexp,  Op::rotary_embedding};
  int64_t elements = 0;  // four forward passes for each
  for (const OpInput& input : one.inputs) elements += input.shape.numel();
  return kStructured.contains(one.op) && elements <= 150;
}

}  // namespace

TEST_SUITE("cuda_ops") {
  TEST_CASE("every op of the list gives the CPU's values and gradients on a GPU") {
    if (skipped_without_gpu()) return;
    std::set<Op> compared;
    for (const OpCase& one : all_cases())
      for (const DType dtype : {f64, f32, bf16, f16})
        check_on_gpu(one.label + " " + name(dtype), [&] {
          compare_with_cpu(one, precision_of(one, dtype));
          compared.insert(one.op);
        });
    for (const OpInfo& op : op_list())
      CHECK_MESSAGE(compared.contains(op.op), op.name, " was compared in no dtype");
  }

  TEST_CASE("strided inputs on a GPU give the same values and gradients") {
    if (skipped_without_gpu()) return;
    for (const OpCase& one : all_cases())
      check_on_gpu(one.label, [&] {
        const Inputs dense = make_inputs(one, f64, true, kGpu);
        Inputs strided;
        for (const Tensor& input : dense) strided.push_back(strided_copy(input));
        const Outcome expected = run_both_ways(one, dense), got = run_both_ways(one, strided);
        CHECK(difference(got.output, expected.output) <= 1e-12);
        for (size_t i = 0; i < expected.grads.size(); ++i)
          CHECK(difference(got.grads[i], expected.grads[i]) <= 1e-12);
      });
  }

  TEST_CASE("a GPU gives the same bits on every run") {
    if (skipped_without_gpu()) return;
    for (const OpCase& one : all_cases())
      for (const DType dtype : {f32, bf16})
        check_on_gpu(one.label + " " + name(dtype), [&] {
          const Inputs inputs = make_inputs(one, dtype, true, kGpu);
          const Outcome expected = run_both_ways(one, inputs), got = run_both_ways(one, inputs);
          CHECK(same_bits(got.output, expected.output));
          for (size_t i = 0; i < expected.grads.size(); ++i)
            CHECK(same_bits(got.grads[i], expected.grads[i]));
        });
  }

  TEST_CASE("gradients on a GPU agree with finite differences in f64") {
    if (skipped_without_gpu()) return;
    for (const OpCase& one : all_cases()) {
      if (!has_gradcheck(one)) continue;
      check_on_gpu(one.label, [&] {
        const GradcheckResult result = gradcheck(one.run, make_inputs(one, f64, true, kGpu));
        CHECK_MESSAGE(result.ok, one.label, ": ", result.message);
      });
    }
  }

  TEST_CASE("log_softmax of large 16-bit numbers is no probability above 1") {
    if (skipped_without_gpu()) return;
    for (const DType dtype : {bf16, f16})
      for (const double largest : {100.0, 1000.0, 29999.0}) {
        CAPTURE(largest);
        const Tensor x = full({4, 300}, -largest, dtype);
        copy_(slice(x, 1, 7, 8), full({4, 1}, largest, dtype));
        const std::vector<float> got = to(log_softmax(to(x, kGpu)), f32).to_vector<float>(),
                                 number = to(x, f32).to_vector<float>();
        CHECK(got[7] <= 0.0f);
        CHECK(got[7] > -1e-6f);
        CHECK(got[0] == doctest::Approx(number[0] - number[7]).epsilon(0.004));
      }
  }

  TEST_CASE("pointwise ops take empty tensors on a GPU") {
    if (skipped_without_gpu()) return;
    for (const OpCase& one : pointwise_cases())
      check_on_gpu(one.label, [&] {
        Inputs inputs;
        for (const OpInput& input : one.inputs) {
          Shape shape = input.shape;
          if (shape.empty()) shape = {1};
          if (shape.back() != 1 || one.inputs.size() == 1) shape[shape.rank() - 1] = 0;
          inputs.push_back(Tensor::empty(shape, f32, kGpu).requires_grad_());
        }
        const Outcome outcome = run_both_ways(one, inputs);
        CHECK(outcome.output.numel() == 0);
        for (size_t i = 0; i < outcome.grads.size(); ++i)
          CHECK(outcome.grads[i].shape() == inputs[i].shape());
      });
  }
}
