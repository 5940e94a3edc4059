// A step that a GPU leaves out by itself.
//
// What a rule does depends on how many steps have been taken, and of the last few the host may not
// know whether they were. So it queues the step once for every count that is possible, each behind
// a gate that opens for one of them: all but one do nothing. The numbers of the rule are the ones
// that the host computes for a step that it knows of, to the bit.
#include <tendril/core/creation.h>
#include <tendril/core/ops/inplace.h>
#include <tendril/core/profiler.h>
#include <tendril/optim/optimizer.h>
#include <tendril/optim/steps_in_doubt.h>

#include <algorithm>

namespace tendril::optim {
namespace {

// A GPU's queue of work is full long before so many training steps are in it.
constexpr size_t kMostInDoubt = 7;

}  // namespace

int64_t Optimizer::StepsInDoubt::left_out() const {
  return std::count_if(flags.begin(), flags.end(),
                       [](const LateFlag& flag) { return flag.value(); });
}

void Optimizer::StepsInDoubt::settle(size_t most) {
  while (!flags.empty() && (flags.size() > most || flags.front().has_arrived())) {
    if (flags.front().value()) {
      ++known;
      for (Slot* slot : slots) --slot->step;
    }
    flags.pop_front();
  }
}

void Optimizer::settle_steps() {
  if (in_doubt_) in_doubt_->settle(0);
}

int64_t Optimizer::steps_of(const Slot& slot) const {
  if (!in_doubt_ || in_doubt_->flags.empty()) return slot.step;
  const auto& doubtful = in_doubt_->slots;
  const bool concerned = std::find(doubtful.begin(), doubtful.end(), &slot) != doubtful.end();
  return concerned ? slot.step - in_doubt_->left_out() : slot.step;
}

const ops::StepGate& Optimizer::gate() const {
  static const ops::StepGate always_open;
  return in_doubt_ ? in_doubt_->gate : always_open;
}

void Optimizer::step_unless(const LateFlag& left_out) {
  const std::vector<Slot*> slots = slots_with_gradients();
  if (slots.empty()) return;
  const Device device = slots[0]->parameter.device();
  const auto is_there = [&](const Slot* slot) {
    return slot->parameter.device() == device && slot->parameter.grad().device() == device;
  };
  if (device.is_cuda() && can_be_gated() && !left_out.seen() &&
      left_out.tensor().device() == device && std::all_of(slots.begin(), slots.end(), is_there))
    step_in_doubt(slots, left_out);
  else if (!left_out.value())
    step();
}

void Optimizer::step_in_doubt(const std::vector<Slot*>& slots, const LateFlag& left_out) {
  const ProfileRange range("optimizer step");
  const Device device = slots[0]->parameter.device();
  if (!in_doubt_) in_doubt_ = std::make_unique<StepsInDoubt>();
  StepsInDoubt& doubt = *in_doubt_;
  if (doubt.slots != slots || doubt.total.device() != device) {
    doubt.settle(0);
    doubt = {.slots = slots, .flags = {}, .total = zeros({}, i64, device)};
  }
  doubt.settle(kMostInDoubt);
  doubt.gate.verdict = ops::step_verdict(left_out.tensor(), doubt.total, doubt.known);
  const auto count = [&](int64_t steps) {
    for (Slot* slot : slots) slot->step += steps;
  };
  count(1);
  try {
    // If `missed` of the steps in doubt were left out.
    for (int64_t missed = 0; missed <= std::ssize(doubt.flags); ++missed, count(-1)) {
      doubt.gate.opens_at = missed;
      update_all(slots);
    }
  } catch (...) {  // a step that was refused does not count; what was queued of it may still be done
    count(doubt.gate.opens_at - 1);
    doubt.gate = {};
    throw;
  }
  count(std::ssize(doubt.flags) + 1);
  doubt.gate = {};
  ops::add_in_place(doubt.total, left_out.tensor(), 1.0);
  doubt.flags.push_back(left_out);
}

}  // namespace tendril::optim
