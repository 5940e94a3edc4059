#include <tendril/optim/adagrad.h>
#include <tendril/optim/rule_optimizer.h>

namespace tendril::optim {

Adagrad::Adagrad(const std::vector<NamedTensor>& parameters, const AdagradOptions& options) {
  add_param_group(parameters, options);
}

Adagrad::Adagrad(const std::vector<Tensor>& parameters, const AdagradOptions& options)
    : Adagrad(numbered(parameters), options) {}

void Adagrad::check(const AdagradOptions& options) const {
  check_not_negative("Adagrad", "lr_decay", options.lr_decay);
  check_not_negative("Adagrad", "weight_decay", options.weight_decay);
  check_not_negative("Adagrad", "initial_accumulator_value", options.initial_accumulator_value);
  check_not_negative("Adagrad", "eps", options.eps);
}

void Adagrad::update_all(std::span<Slot* const> slots) {
  const auto states = [&](Slot& slot) {
    return std::array{state_of(slot, "sum", options_of(slot).initial_accumulator_value)};
  };
  const auto rule = [&](const Slot& slot) {
    const AdagradOptions& options = options_of(slot);
    const double past = static_cast<double>(slot.step - 1);
    return ops::AdagradRule{.sign = options.maximize ? -1.0 : 1.0,
                            .l2 = options.weight_decay,
                            .step_size = lr(slot.group) / (1.0 + past * options.lr_decay),
                            .eps = options.eps};
  };
  apply_rule<ops::AdagradRule>(slots, states, master_of, rule, gate());
}

std::vector<Optimizer::StateSpec> Adagrad::state_specs(const Slot& slot) const {
  return like_parameter(slot, {"sum"});
}

}  // namespace tendril::optim
