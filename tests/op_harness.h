// What the tests that walk the table of op cases share: all cases, their inputs, and running one in
// both directions on any device.
#pragma once

#include <vector>

#include "op_cases.h"

namespace tendril::testing {

using Inputs = std::vector<Tensor>;

/// Generated from the pointwise rows of ops.def.
std::vector<OpCase> pointwise_cases();
/// Those and the cases of every family.
const std::vector<OpCase>& all_cases();

bool differentiable(const OpCase& one);
/// Whether any input of the case can require grad.
bool takes_grad(const OpCase& one);

/// The same numbers on every call and every device: drawn in f64, rounded on the CPU, then moved.
Inputs make_inputs(const OpCase& one, DType dtype, bool with_grad, Device device = Device::cpu());
/// The same numbers in reversed-axes storage with a gap between elements.
Tensor strided_copy(const Tensor& x);

struct Outcome {
  Tensor output;
  Inputs grads;  // of the inputs that require grad, for a fixed random gradient of the output
};
Outcome run_both_ways(const OpCase& one, const Inputs& inputs);

/// Largest difference relative to the largest number; infinite when shape or presence differ.
double difference(const Tensor& a, const Tensor& b);
bool same_bits(const Tensor& a, const Tensor& b);

}  // namespace tendril::testing
