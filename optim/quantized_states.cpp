#include <tendril/optim/adamw_8bit.h>
#include <tendril/optim/lion_8bit.h>
#include <tendril/optim/optimizer_names.h>
#include <tendril/optim/quantized_moments.h>
#include <tendril/optim/quantized_states.h>
#include <tendril/optim/rounding.h>
#include <tendril/optim/rule_optimizer.h>

#include <array>

namespace tendril::optim {
namespace {

// ---- what differs between the two: names, and the rule of one step

const char* name_of(const AdamW8bitOptions&) { return "AdamW8bit"; }
const char* name_of(const Lion8bitOptions&) { return "Lion8bit"; }

ops::LateDecayAdamWRule rule_of(const AdamW8bitOptions& options, double lr, int64_t step) {
  return late_decay_rule(options, options.weight_decay, lr, step);
}

ops::LionRule rule_of(const Lion8bitOptions& options, double lr, int64_t) {
  return {.decay = lr * options.weight_decay,
          .beta1 = options.beta1,
          .new1 = 1.0 - options.beta1,
          .beta2 = options.beta2,
          .new2 = 1.0 - options.beta2,
          .step_size = lr};
}

template <class Options>
using RuleOf = decltype(rule_of(Options(), 0.0, 0));

// ---- the rest is common

template <class Options>
std::optional<RandomKey> rounding_of(const Options& options, const std::string& name,
                                     const Tensor& parameter, int64_t step) {
  if (!rounds_at_random(name_of(options), options.stochastic_rounding, parameter)) return {};
  return rounding_key(options.rounding_seed, name, step);
}

}  // namespace

template <class Options>
void QuantizedStates<Options>::check(const Options& options) const {
  const char* const name = name_of(options);
  check_betas(name, {options.beta1, options.beta2});
  if constexpr (requires { options.eps; }) check_not_negative(name, "eps", options.eps);
  check_not_negative(name, "weight_decay", options.weight_decay);
  TENDRIL_CHECK(options.quantization.min_size >= 0, "[", name,
                "] min_size must not be negative; got ", options.quantization.min_size);
}

template <class Options>
bool QuantizedStates<Options>::is_quantized(const Slot& slot) const {
  const QuantizationOptions& options = this->options_of(slot).quantization;
  return slot.parameter.dtype() != f64 && slot.parameter.numel() >= options.min_size &&
         !(options.keep_32bit && options.keep_32bit(slot.name));
}

template <class Options>
bool QuantizedStates<Options>::keeps_master(const Slot& slot) const {
  return has_master(slot.parameter) &&
         !rounding_of(this->options_of(slot), slot.name, slot.parameter, slot.step);
}

template <class Options>
std::vector<Optimizer::StateSpec> QuantizedStates<Options>::state_specs(const Slot& slot) const {
  const Shape& shape = slot.parameter.shape();
  const bool quantized = is_quantized(slot);
  std::vector<StateSpec> specs;
  for (int k = 0; k < RuleOf<Options>::kStates; ++k) {
    if (!quantized) {
      specs.push_back({kMomentNames[k], shape});
      continue;
    }
    specs.push_back({codes_name(k), shape, u8});
    specs.push_back({absmax_name(k), {ops::quant_blocks(shape.numel())}, f32});
  }
  return specs;
}

template <class Options>
void QuantizedStates<Options>::update_all(std::span<Slot* const> slots) {
  using Rule = RuleOf<Options>;
  std::vector<ops::RuleUpdate<Rule>> wide;
  std::vector<ops::QuantizedRuleUpdate<Rule>> narrow;
  const auto fill = [&](auto& update, Slot& slot) {
    const Options& options = this->options_of(slot);
    update.parameter = slot.parameter;
    update.gradient = slot.parameter.grad();
    update.rule = rule_of(options, this->lr(slot.group), slot.step);
    update.rounding = rounding_of(options, slot.name, slot.parameter, slot.step);
    if (!update.rounding) update.master = this->master_of(slot);
  };
  for (Slot* slot : slots) {
    const std::vector<StateSpec> specs = state_specs(*slot);
    if (!is_quantized(*slot)) {
      fill(wide.emplace_back(), *slot);
      for (int k = 0; k < Rule::kStates; ++k)
        wide.back().states[k] = this->state_of(*slot, specs[static_cast<size_t>(k)]);
      continue;
    }
    fill(narrow.emplace_back(), *slot);
    for (int k = 0; k < Rule::kStates; ++k) {
      const auto at = static_cast<size_t>(2 * k);
      narrow.back().states[k] = {this->state_of(*slot, specs[at], zero_code_of<Rule>(k)),
                                 this->state_of(*slot, specs[at + 1])};
    }
  }
  ops::apply_rules<Rule>(std::span<const ops::RuleUpdate<Rule>>(wide), this->gate());
  ops::apply_rules<Rule>(std::span<const ops::QuantizedRuleUpdate<Rule>>(narrow), this->gate());
}

template class QuantizedStates<AdamW8bitOptions>;
template class QuantizedStates<Lion8bitOptions>;

AdamW8bit::AdamW8bit(const std::vector<NamedTensor>& parameters, const AdamW8bitOptions& options) {
  add_param_group(parameters, options);
}

AdamW8bit::AdamW8bit(const std::vector<Tensor>& parameters, const AdamW8bitOptions& options)
    : AdamW8bit(numbered(parameters), options) {}

Lion8bit::Lion8bit(const std::vector<NamedTensor>& parameters, const Lion8bitOptions& options) {
  add_param_group(parameters, options);
}

Lion8bit::Lion8bit(const std::vector<Tensor>& parameters, const Lion8bitOptions& options)
    : Lion8bit(numbered(parameters), options) {}

}  // namespace tendril::optim
