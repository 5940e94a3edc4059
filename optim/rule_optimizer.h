// Private to optim: optimizers whose rule is one of <tendril/core/ops/optimizer_rules.h>.
#pragma once

#include <array>
#include <vector>

#include <tendril/core/ops/optimizer_rule_step.h>
#include <tendril/optim/optimizer.h>

namespace tendril::optim {

/// Applies rule_of(slot) to each slot where the gate is open. states_of(slot) are the rule's state
/// tensors, in its order, and master_of(slot) the master.
template <class Rule, class Slot, class StatesOf, class MasterOf, class RuleOf>
void apply_rule(std::span<Slot* const> slots, const StatesOf& states_of, const MasterOf& master_of,
                const RuleOf& rule_of, const ops::StepGate& gate = {}) {
  std::vector<ops::RuleUpdate<Rule>> updates;
  updates.reserve(slots.size());
  for (Slot* slot : slots)
    updates.push_back({.parameter = slot->parameter,
                       .gradient = slot->parameter.grad(),
                       .master = master_of(*slot),
                       .states = states_of(*slot),
                       .rule = rule_of(*slot)});
  ops::apply_rules<Rule>(updates, gate);
}

/// What all optimizers of Adam's kind ask of their options.
inline void check_betas(const char* optimizer, std::initializer_list<double> betas) {
  for (const double beta : betas)
    TENDRIL_CHECK(beta >= 0.0 && beta < 1.0, "[", optimizer, "] betas must be in [0, 1); got ",
                  beta);
}

inline void check_not_negative(const char* optimizer, const char* option, double value) {
  TENDRIL_CHECK(value >= 0.0, "[", optimizer, "] ", option, " must not be negative; got ", value);
}

}  // namespace tendril::optim
