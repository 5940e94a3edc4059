// A condition under which a GPU takes an optimizer's step, which the host queues without knowing.
#pragma once

#include <cstdint>

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// The step is taken where the verdict, which step_verdict() gave, is `opens_at`; otherwise nothing
/// changes. Without a verdict it is always taken.
struct StepGate {
  Tensor verdict = {};  // i64 without axes, on the parameters' device
  int64_t opens_at = 0;
};

/// -1 where `left_out` is not 0. Otherwise total - known: how many steps have been left out, of
/// which the host did not know when it queued this one. All i64 without axes, on one device, which
/// nobody waits for.
TENDRIL_API Tensor step_verdict(const Tensor& left_out, const Tensor& total, int64_t known);

/// Whether the gate is open, for the CPU's steps; waits if the verdict is a GPU's.
bool is_open(const StepGate& gate);

}  // namespace tendril::ops
