#include <tendril/optim/lion.h>
#include <tendril/optim/rule_optimizer.h>

namespace tendril::optim {

Lion::Lion(const std::vector<NamedTensor>& parameters, const LionOptions& options) {
  add_param_group(parameters, options);
}

Lion::Lion(const std::vector<Tensor>& parameters, const LionOptions& options)
    : Lion(numbered(parameters), options) {}

void Lion::check(const LionOptions& options) const {
  check_betas("Lion", {options.beta1, options.beta2});
  check_not_negative("Lion", "weight_decay", options.weight_decay);
}

void Lion::update_all(std::span<Slot* const> slots) {
  const auto states = [&](Slot& slot) { return std::array{state_of(slot, "exp_avg")}; };
  const auto rule = [&](const Slot& slot) {
    const LionOptions& options = options_of(slot);
    return ops::LionRule{.decay = lr(slot.group) * options.weight_decay,
                         .beta1 = options.beta1,
                         .new1 = 1.0 - options.beta1,
                         .beta2 = options.beta2,
                         .new2 = 1.0 - options.beta2,
                         .step_size = lr(slot.group)};
  };
  apply_rule<ops::LionRule>(slots, states, master_of, rule, gate());
}

std::vector<Optimizer::StateSpec> Lion::state_specs(const Slot& slot) const {
  return like_parameter(slot, {"exp_avg"});
}

}  // namespace tendril::optim
