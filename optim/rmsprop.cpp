#include <tendril/optim/rmsprop.h>
#include <tendril/optim/rule_optimizer.h>

namespace tendril::optim {

RmsProp::RmsProp(const std::vector<NamedTensor>& parameters, const RmsPropOptions& options) {
  add_param_group(parameters, options);
}

RmsProp::RmsProp(const std::vector<Tensor>& parameters, const RmsPropOptions& options)
    : RmsProp(numbered(parameters), options) {}

void RmsProp::check(const RmsPropOptions& options) const {
  check_betas("RmsProp", {options.alpha});
  check_not_negative("RmsProp", "eps", options.eps);
  check_not_negative("RmsProp", "weight_decay", options.weight_decay);
  check_not_negative("RmsProp", "momentum", options.momentum);
}

// The slots whose groups have these of the two options.
template <bool kCentered, bool kMomentum>
void RmsProp::update_like(std::span<Slot* const> slots) {
  using Rule = ops::RmsPropRule<kCentered, kMomentum>;
  std::vector<Slot*> same;
  for (Slot* slot : slots) {
    const RmsPropOptions& options = options_of(*slot);
    if (options.centered == kCentered && (options.momentum > 0.0) == kMomentum)
      same.push_back(slot);
  }
  const auto states = [&](Slot& slot) {
    std::array<Tensor, Rule::kStates> list;
    size_t count = 0;
    for (const StateSpec& spec : state_specs(slot)) list[count++] = state_of(slot, spec);
    return list;
  };
  const auto rule = [&](const Slot& slot) {
    const RmsPropOptions& options = options_of(slot);
    return Rule{.sign = options.maximize ? -1.0 : 1.0,
                .l2 = options.weight_decay,
                .alpha = options.alpha,
                .new_weight = 1.0 - options.alpha,
                .eps = options.eps,
                .momentum = options.momentum,
                .step_size = lr(slot.group)};
  };
  apply_rule<Rule>(std::span<Slot* const>(same), states, master_of, rule, gate());
}

void RmsProp::update_all(std::span<Slot* const> slots) {
  update_like<false, false>(slots);
  update_like<false, true>(slots);
  update_like<true, false>(slots);
  update_like<true, true>(slots);
}

std::vector<Optimizer::StateSpec> RmsProp::state_specs(const Slot& slot) const {
  std::vector<StateSpec> specs = like_parameter(slot, {"square_avg"});
  const Shape& shape = slot.parameter.shape();
  if (options_of(slot).centered) specs.push_back({"grad_avg", shape});
  if (options_of(slot).momentum > 0.0) specs.push_back({"momentum_buffer", shape});
  return specs;
}

}  // namespace tendril::optim
