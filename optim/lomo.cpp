#include <tendril/autograd/functions.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/optim/adafactor_rule.h>
#include <tendril/optim/exact.h>
#include <tendril/optim/lomo.h>
#include <tendril/optim/optimizer_names.h>
#include <tendril/optim/rule_optimizer.h>

namespace tendril::optim {
namespace {

AdafactorOptions adafactor_options(const AdaLomoOptions& options) {
  return {.lr = options.lr,
          .eps_square = options.eps_square,
          .eps_scale = options.eps_scale,
          .clip_threshold = options.clip_threshold,
          .decay_rate = options.decay_rate,
          .weight_decay = options.weight_decay,
          .scale_parameter = true,
          .relative_step = false};
}

}  // namespace

Lomo::Lomo(const std::vector<NamedTensor>& parameters, const LomoOptions& options) : Lomo() {
  add_param_group(parameters, options);
}

Lomo::Lomo(const std::vector<Tensor>& parameters, const LomoOptions& options)
    : Lomo(numbered(parameters), options) {}

void Lomo::check(const LomoOptions& options) const {
  check_not_negative("Lomo", "weight_decay", options.weight_decay);
}

void Lomo::update(Slot& slot, const Tensor& gradient, double lr) {
  const Tensor& parameter = slot.parameter;
  // The kernel computes 16-bit parameters in f32 memory, which here lasts for this step only.
  const Tensor wide = has_master(parameter) ? ops::cast(parameter, f32) : Tensor();
  ops::sgd_step(parameter, gradient, {.buffer = {}, .master = wide},
                {.lr = lr, .weight_decay = options_of(slot).weight_decay});
}

std::vector<Optimizer::StateSpec> Lomo::state_specs(const Slot&) const { return {}; }

AdaLomo::AdaLomo(const std::vector<NamedTensor>& parameters, const AdaLomoOptions& options)
    : AdaLomo() {
  add_param_group(parameters, options);
}

AdaLomo::AdaLomo(const std::vector<Tensor>& parameters, const AdaLomoOptions& options)
    : AdaLomo(numbered(parameters), options) {}

void AdaLomo::check(const AdaLomoOptions& options) const {
  check_adafactor(adafactor_options(options));
}

void AdaLomo::update(Slot& slot, const Tensor& given, double lr) {
  const AdafactorOptions options = adafactor_options(options_of(slot));
  std::vector<Tensor> states;
  for (const StateSpec& spec : state_specs(slot)) states.push_back(state_of(slot, spec));
  const Tensor value = in_state_dtype(slot.parameter, slot.parameter);
  const Tensor rate = adafactor_rate(options, lr, slot.step, value);
  const Tensor change =
      adafactor_change(options, slot.step, in_state_dtype(given, slot.parameter), states, rate);
  const Tensor decayed =
      options.weight_decay > 0.0 ? value - value * (rate * options.weight_decay) : value;
  set_exact(slot.parameter, {}, decayed - change);
}

std::vector<Optimizer::StateSpec> AdaLomo::state_specs(const Slot& slot) const {
  std::vector<StateSpec> specs;
  for (const auto& [name, shape] :
       adafactor_states(adafactor_options(options_of(slot)), slot.parameter.shape()))
    specs.push_back({name, shape});
  return specs;
}

}  // namespace tendril::optim
