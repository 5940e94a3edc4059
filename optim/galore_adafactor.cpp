#include <tendril/autograd/functions.h>
#include <tendril/optim/adafactor_rule.h>
#include <tendril/optim/galore.h>

namespace tendril::optim {

GaloreAdafactor::GaloreAdafactor(const std::vector<NamedTensor>& parameters,
                                 const GaloreAdafactorOptions& options) {
  add_param_group(parameters, options);
}

GaloreAdafactor::GaloreAdafactor(const std::vector<Tensor>& parameters,
                                 const GaloreAdafactorOptions& options)
    : GaloreAdafactor(numbered(parameters), options) {}

void GaloreAdafactor::add_param_group(const std::vector<NamedTensor>& parameters,
                                      const GaloreAdafactorOptions& options) {
  check_adafactor(options.adafactor);
  register_projected(parameters, options.adafactor.lr, options.projection);
  options_.push_back(options);
}

std::vector<Optimizer::StateSpec> GaloreAdafactor::inner_specs(const Slot& slot,
                                                               const Shape& gradient) const {
  std::vector<StateSpec> specs;
  for (const auto& [name, shape] : adafactor_states(options_[slot.group].adafactor, gradient))
    specs.push_back({name, shape});
  return specs;
}

Tensor GaloreAdafactor::inner_step(Slot& slot, const Tensor& gradient, const Tensor& value,
                                   double lr) {
  const AdafactorOptions& options = options_[slot.group].adafactor;
  return adafactor_change(options, slot.step, gradient, inner_states(slot, gradient.shape()),
                          adafactor_rate(options, lr, slot.step, value));
}

Tensor GaloreAdafactor::next_value(const Slot& slot, const Tensor& value, const Tensor& change,
                                   double lr) const {
  const AdafactorOptions& options = options_[slot.group].adafactor;
  if (options.weight_decay <= 0.0) return value - change;
  const Tensor rate = adafactor_rate(options, lr, slot.step, value);
  return value - value * (rate * options.weight_decay) - change;
}

}  // namespace tendril::optim
