#include <tendril/autograd/functions.h>
#include <tendril/optim/adafactor.h>
#include <tendril/optim/adafactor_rule.h>
#include <tendril/optim/exact.h>

namespace tendril::optim {

Adafactor::Adafactor(const std::vector<NamedTensor>& parameters, const AdafactorOptions& options) {
  add_param_group(parameters, options);
}

Adafactor::Adafactor(const std::vector<Tensor>& parameters, const AdafactorOptions& options)
    : Adafactor(numbered(parameters), options) {}

void Adafactor::check(const AdafactorOptions& options) const { check_adafactor(options); }

void Adafactor::update(Slot& slot, const Tensor& given, double lr) {
  const AdafactorOptions& options = options_of(slot);
  const Tensor master = master_of(slot);
  const Tensor value = exact_value(slot.parameter, master);
  const Tensor rate = adafactor_rate(options, lr, slot.step, value);
  std::vector<Tensor> states;
  for (const StateSpec& spec : state_specs(slot)) states.push_back(state_of(slot, spec));
  const Tensor change =
      adafactor_change(options, slot.step, in_state_dtype(given, slot.parameter), states, rate);
  const Tensor decayed =
      options.weight_decay > 0.0 ? value - value * (rate * options.weight_decay) : value;
  set_exact(slot.parameter, master, decayed - change);
}

std::vector<Optimizer::StateSpec> Adafactor::state_specs(const Slot& slot) const {
  std::vector<StateSpec> specs;
  for (auto& [name, shape] : adafactor_states(options_of(slot), slot.parameter.shape()))
    specs.push_back({name, shape});
  return specs;
}

}  // namespace tendril::optim
