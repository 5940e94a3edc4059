// Applying a rule of optimizer_rules.h to whole parameters whose states have 8 bits.
#pragma once

#include <array>
#include <optional>
#include <span>

#include <tendril/core/ops/optimizer_rules.h>
#include <tendril/core/ops/quantize_blockwise.h>
#include <tendril/core/ops/step_gate.h>
#include <tendril/core/random.h>

namespace tendril::ops {

/// As RuleUpdate, for parameters of up to 32 bits; state k has the codes of Rule::kSigned[k].
template <class Rule>
struct QuantizedRuleUpdate {
  Tensor parameter, gradient, master;
  std::array<Quantized, Rule::kStates> states;
  Rule rule;
  std::optional<RandomKey> rounding = {};
};

/// Block by block: the states are dequantised, the rule is applied to them in f32, the parameter
/// takes the step of the exact new states, and those are quantised again. An element whose new
/// state is not finite (as its gradient is not) is left out, and its states become 0. Parameters
/// and codes are the same bits on every device.
template <class Rule>
void apply_rules(std::span<const QuantizedRuleUpdate<Rule>> updates, const StepGate& gate = {});

}  // namespace tendril::ops
