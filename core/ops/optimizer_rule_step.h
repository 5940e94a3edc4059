// Applying a rule of optimizer_rules.h to whole parameters.
#pragma once

#include <array>
#include <optional>
#include <span>

#include <tendril/core/ops/optimizer_rules.h>
#include <tendril/core/ops/step_gate.h>
#include <tendril/core/random.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

/// One update: all tensors dense and of the parameter's shape; the gradient may have any layout and
/// floating dtype. `master` is undefined unless the parameter has 16 bits, and then too with
/// `rounding`; see optimizer_step.h.
template <class Rule>
struct RuleUpdate {
  Tensor parameter, gradient, master;
  std::array<Tensor, Rule::kStates> states;
  Rule rule;
  std::optional<RandomKey> rounding = {};
};

/// Applies the rule to many parameters at once: on a GPU a launch for dozens that share dtypes and
/// rule.
template <class Rule>
void apply_rules(std::span<const RuleUpdate<Rule>> updates, const StepGate& gate = {});

}  // namespace tendril::ops
