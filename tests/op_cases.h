// The data of the table-driven op test (tests/test_ops.cpp). One row per structured op of ops.def
// (the pointwise ones are generated from their rows); a test fails when a row is missing.
//
// A case only builds: inputs are made, `run` applies the op. From that the test derives
//   - a finite-difference gradient check in f64 of every differentiable input,
//   - the same with strided (transposed storage) inputs,
//   - bf16 and f16 against f32 within their rounding,
//   - two runs give the same bits, also with 1, 2 and 4 threads,
//   - that a NONDIFF op throws with its name when a gradient reaches it,
//   - the same results on a GPU (tests/test_cuda_ops.cpp); `run` moves constants of its own to the
//     device of its inputs.
// Broadcast, empty, golden and error tests that need expected values stand in
// tests/test_<family>.cpp.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <tendril/core/ops/op_list.h>
#include <tendril/core/tensor.h>

namespace tendril::testing {

struct OpInput {
  Shape shape;
  double low = -2.0, high = 2.0;  // uniform; |x| >= 0.05 so that kinks at 0 are avoided
  bool differentiable = true;     // false: passed as is, no gradient is checked
  Tensor value = {};              // when defined: used instead of random numbers (indices, masks)
};

struct OpCase {
  Op op;
  std::string label;  // e.g. "softmax axis 0"
  std::vector<OpInput> inputs;
  std::function<Tensor(const std::vector<Tensor>&)> run;
  double half_tolerance =
      1.0;           // multiplies the allowed bf16/f16 error, for ops that chain many roundings
  bool half = true;  // false: the op is not defined for 16-bit floats
};

// Each family appends its cases; every file tests/op_cases_<family>.cpp defines one of these.
std::vector<OpCase> reduce_cases();
std::vector<OpCase> layout_cases();
std::vector<OpCase> algebra_cases();  // matmul, linear, einsum, where, masked_fill, to, checkpoint
std::vector<OpCase> layer_cases();    // softmax, norms, dropout, embedding, rotary
std::vector<OpCase> attention_cases();
std::vector<OpCase> loss_cases();

}  // namespace tendril::testing
