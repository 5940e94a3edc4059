// A StepGate as the kernels of a step see it.
#pragma once

#include <tendril/core/ops/step_gate.h>

namespace tendril::ops::cuda {

struct Gate {
  const int64_t* verdict;  // null: always open
  int64_t opens_at;

  explicit Gate(const StepGate& gate)
      : verdict(gate.verdict.defined() ? gate.verdict.data<int64_t>() : nullptr),
        opens_at(gate.opens_at) {}
  /// The same for all threads of a launch.
  __device__ bool is_closed() const { return verdict && *verdict != opens_at; }
};

}  // namespace tendril::ops::cuda
