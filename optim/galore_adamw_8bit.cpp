#include <tendril/core/creation.h>
#include <tendril/core/ops/optimizer_rule_step.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/optim/galore_adamw_8bit.h>
#include <tendril/optim/quantized_moments.h>
#include <tendril/optim/raw_root_adamw.h>
#include <tendril/optim/rule_optimizer.h>

namespace tendril::optim {

using Rule = ops::LateDecayAdamWRule;

struct GaloreAdamW8bit::Updates {
  std::vector<ops::RuleUpdate<Rule>> wide;
  std::vector<ops::QuantizedRuleUpdate<Rule>> narrow;

  void apply() const {
    ops::apply_rules<Rule>(std::span<const ops::RuleUpdate<Rule>>(wide));
    ops::apply_rules<Rule>(std::span<const ops::QuantizedRuleUpdate<Rule>>(narrow));
  }
};

GaloreAdamW8bit::GaloreAdamW8bit(const std::vector<NamedTensor>& parameters,
                                 const GaloreAdamW8bitOptions& options) {
  add_param_group(parameters, options);
}

GaloreAdamW8bit::GaloreAdamW8bit(const std::vector<Tensor>& parameters,
                                 const GaloreAdamW8bitOptions& options)
    : GaloreAdamW8bit(numbered(parameters), options) {}

void GaloreAdamW8bit::add_param_group(const std::vector<NamedTensor>& parameters,
                                      const GaloreAdamW8bitOptions& options) {
  check_betas("GaloreAdamW8bit", {options.beta1, options.beta2});
  check_not_negative("GaloreAdamW8bit", "eps", options.eps);
  check_not_negative("GaloreAdamW8bit", "weight_decay", options.weight_decay);
  TENDRIL_CHECK(options.quantization.min_size >= 0,
                "[GaloreAdamW8bit] min_size must not be negative; got ",
                options.quantization.min_size);
  register_projected(parameters, options.lr, options.projection);
  options_.push_back(options);
}

bool GaloreAdamW8bit::is_quantized(const Slot& slot, const Shape& gradient) const {
  const QuantizationOptions& options = options_[slot.group].quantization;
  return slot.parameter.dtype() != f64 && gradient.numel() >= options.min_size &&
         !(options.keep_32bit && options.keep_32bit(slot.name));
}

std::vector<Optimizer::StateSpec> GaloreAdamW8bit::inner_specs(const Slot& slot,
                                                               const Shape& gradient) const {
  std::vector<StateSpec> specs;
  for (int k = 0; k < Rule::kStates; ++k) {
    if (!is_quantized(slot, gradient)) {
      specs.push_back({kMomentNames[k], gradient});
      continue;
    }
    specs.push_back({codes_name(k), gradient, u8});
    specs.push_back({absmax_name(k), {ops::quant_blocks(gradient.numel())}, f32});
  }
  return specs;
}

void GaloreAdamW8bit::add_update(Updates& updates, Slot& slot, const Tensor& parameter,
                                 const Tensor& gradient, const Tensor& master,
                                 double weight_decay) {
  const Rule rule = late_decay_rule(options_[slot.group], weight_decay, lr(slot.group), slot.step);
  const std::vector<StateSpec> specs = inner_specs(slot, gradient.shape());
  if (!is_quantized(slot, gradient.shape())) {
    updates.wide.push_back({parameter, gradient, master, {}, rule});
    for (size_t k = 0; k < specs.size(); ++k)
      updates.wide.back().states[k] = state_of(slot, specs[k]);
    return;
  }
  updates.narrow.push_back({parameter, gradient, master, {}, rule});
  for (int k = 0; k < Rule::kStates; ++k) {
    const auto at = static_cast<size_t>(2 * k);
    updates.narrow.back().states[static_cast<size_t>(k)] = {
        state_of(slot, specs[at], zero_code_of<Rule>(k)), state_of(slot, specs[at + 1])};
  }
}

// Parameters that are not projected take one fused pass each.
void GaloreAdamW8bit::update_all(std::span<Slot* const> slots) {
  std::vector<Slot*> projected;
  Updates whole;
  for (Slot* slot : slots) {
    if (projection_of(*slot))
      projected.push_back(slot);
    else
      add_update(whole, *slot, slot->parameter, slot->parameter.grad(), master_of(*slot),
                 options_[slot->group].weight_decay);
  }
  whole.apply();
  Optimizer::update_all(projected);
}

// The kernel moves a parameter; one that starts at zero has then moved by the step.
Tensor GaloreAdamW8bit::inner_step(Slot& slot, const Tensor& gradient, const Tensor&, double) {
  const Tensor moved = zeros(gradient.shape(), gradient.dtype(), gradient.device());
  Updates one;
  add_update(one, slot, moved, gradient, {}, 0.0);
  one.apply();
  return ops::neg(moved);
}

Tensor GaloreAdamW8bit::next_value(const Slot& slot, const Tensor& value, const Tensor& change,
                                   double lr) const {
  return decayed(ops::sub(value, change), lr * options_[slot.group].weight_decay);
}

}  // namespace tendril::optim
