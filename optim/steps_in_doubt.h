// Private to optim: the steps of an optimizer that a GPU may have left out, and the host has not
// heard of yet. Until then the slots' counts take them for taken.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include <tendril/optim/optimizer.h>

namespace tendril::optim {

struct Optimizer::StepsInDoubt {
  std::vector<Slot*> slots;    // that all these steps were of
  std::deque<LateFlag> flags;  // whether a step was left out, the oldest first
  Tensor total;                // i64, on the GPU: how many were left out since it was made
  int64_t known = 0;           // of those, how many the slots' counts no longer include
  ops::StepGate gate = {};     // of what is queued right now

  /// How many of them were left out; waits for the GPU.
  int64_t left_out() const;
  /// Takes those that were left out off the slots' counts: of steps whose flag has arrived, and,
  /// waiting for them, of the oldest until no more than `most` are in doubt.
  void settle(size_t most);
};

}  // namespace tendril::optim
