#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/optimizer_rule_kernels.h>
#include <tendril/core/ops/optimizer_rule_step.h>
#include <tendril/core/ops/optimizer_walk.h>

namespace tendril::ops {
namespace cpu {
namespace {

template <class Rule>
void apply_rule(const RuleUpdate<Rule>& update) {
  const auto run = [&]<class C>(TypeTag<C>, const auto& walk) {
    walk([&](int64_t at, int64_t n, C* p, const C* g) {
      C* states[Rule::kStates];
      for (int k = 0; k < Rule::kStates; ++k) states[k] = update.states[k].template data<C>() + at;
      TENDRIL_ISA_CALL(rule_block(n, p, g, states, update.rule));
    });
  };
  visit_step(Rule::kName, update.parameter, update.gradient, update.master, run, update.rounding);
}

template <class Rule>
void apply_rules(std::span<const RuleUpdate<Rule>> updates, const StepGate& gate) {
  for_each_update(updates, gate, apply_rule<Rule>);
}

}  // namespace
}  // namespace cpu

namespace cuda {
template <class Rule>
void apply_rules(std::span<const RuleUpdate<Rule>> updates,
                 const StepGate& gate);  // optimizer_rules.cu
}

namespace {

template <class Rule>
void check(const RuleUpdate<Rule>& update) {
  const Tensor& parameter = update.parameter;
  check_step(Rule::kName, parameter, update.gradient, update.master, update.rounding);
  require_same_device(Rule::kName, parameter, update.gradient, update.master);
  for (const Tensor& state : update.states) {
    require_same_device(Rule::kName, parameter, state);
    require_dense(Rule::kName, "a state", state, parameter, state_dtype(parameter.dtype()));
  }
}

}  // namespace

template <class Rule>
void apply_rules(std::span<const RuleUpdate<Rule>> updates, const StepGate& gate) {
  for (const RuleUpdate<Rule>& update : updates) check(update);
  for_each_device(updates, [&](std::span<const RuleUpdate<Rule>> here) {
    require_same_device(Rule::kName, here[0].parameter, gate.verdict);
    TENDRIL_ON_DEVICE(here[0].parameter, apply_rules<Rule>(here, gate));
  });
  for (const RuleUpdate<Rule>& update : updates) update.parameter.bump_version();
}

#define RULE(...)                                                                              \
  template TENDRIL_API void apply_rules<__VA_ARGS__>(std::span<const RuleUpdate<__VA_ARGS__>>, \
                                                     const StepGate&);
#include <tendril/core/ops/optimizer_rules.def>

}  // namespace tendril::ops
