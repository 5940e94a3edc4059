// The rules of optimizer_rules.h on a GPU.
#include <tendril/core/ops/optimizer_step.cuh>

namespace tendril::ops::cuda {

template <class Rule>
void apply_rules(std::span<const RuleUpdate<Rule>> updates) {
  queue_steps(updates);
}

#define RULE(...) template void apply_rules<__VA_ARGS__>(std::span<const RuleUpdate<__VA_ARGS__>>);
#include <tendril/core/ops/optimizer_rules.def>

}  // namespace tendril::ops::cuda
