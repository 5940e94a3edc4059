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
  const Tensor parameter = slot.parameter.detach();
  const Tensor sized = options.scale_parameter ? exact_value(parameter, master)
                       : master.defined()      ? master
                                               : parameter;
  const Tensor rate = adafactor_rate(options, lr, slot.step, sized);
  std::vector<Tensor> states;
  for (const StateSpec& spec : state_specs(slot)) states.push_back(state_of(slot, spec));
  const AdafactorChange change(options, slot.step, given.detach(), states, rate);
  for_each_piece(given, [&](const Piece& piece) {
    const Tensor part = piece.of(parameter);
    const Tensor part_of_master = master.defined() ? piece.of(master) : Tensor();
    const Tensor value = exact_value(part, part_of_master);
    const Tensor decayed =
        options.weight_decay > 0.0 ? value - value * (rate * options.weight_decay) : value;
    set_exact(part, part_of_master, decayed - change.of(piece));
  });
}

std::vector<Optimizer::StateSpec> Adafactor::state_specs(const Slot& slot) const {
  std::vector<StateSpec> specs;
  for (auto& [name, shape] : adafactor_states(options_of(slot), slot.parameter.shape()))
    specs.push_back({name, shape});
  return specs;
}

}  // namespace tendril::optim
