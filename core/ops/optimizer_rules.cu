// The rules of optimizer_rules.h on a GPU.
#include <tendril/core/ops/optimizer_step.cuh>

namespace tendril::ops::cuda {

template <class Rule>
void apply_rules(std::span<const RuleUpdate<Rule>> updates, const StepGate& gate) {
  queue_steps(updates, gate);
}

#define RULE(...) \
  template void apply_rules<__VA_ARGS__>(std::span<const RuleUpdate<__VA_ARGS__>>, const StepGate&);
#include <tendril/core/ops/optimizer_rules.def>

}  // namespace tendril::ops::cuda
