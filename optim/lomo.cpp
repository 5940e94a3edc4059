#include <tendril/autograd/functions.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/gradient_norm.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/optim/adafactor_rule.h>
#include <tendril/optim/exact.h>
#include <tendril/optim/lomo.h>
#include <tendril/optim/optimizer_names.h>
#include <tendril/optim/rule_optimizer.h>

#include <algorithm>
#include <cmath>

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

double root_mean_square(const Tensor& x) {
  return std::sqrt(ops::sum_of_squares(x) / static_cast<double>(std::max<int64_t>(1, x.numel())));
}

// The kernel computes 16-bit parameters in f32 memory, which here lasts for one step only.
Tensor wide_copy(const Tensor& parameter) {
  return has_master(parameter) ? ops::cast(parameter, f32) : Tensor();
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
  ops::sgd_step(slot.parameter, gradient, {.buffer = {}, .master = wide_copy(slot.parameter)},
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

// In the gradient's own memory, one factor after the other: an embedding's gradient is large enough
// alone.
void AdaLomo::update(Slot& slot, const Tensor& given, double lr) {
  const AdafactorOptions options = adafactor_options(options_of(slot));
  const Tensor& parameter = slot.parameter;
  const Tensor direction = ops::contiguous(in_state_dtype(given, parameter));
  std::vector<Tensor> states;
  for (const StateSpec& spec : state_specs(slot)) states.push_back(state_of(slot, spec));
  enter_squares(options, slot.step, direction, states);
  const Tensor& first = states[0];
  if (direction.rank() < 2) {
    ops::copy(direction, direction * rsqrt(first));
  } else {
    const Tensor rows = rsqrt(first / mean(first, {-1}, /*keepdim=*/true));
    ops::copy(direction, direction * unsqueeze(rows, -1));
    ops::copy(direction, direction * unsqueeze(rsqrt(states[1]), -2));
  }
  const double excess = std::max(1.0, root_mean_square(direction) / options.clip_threshold);
  const double rate = lr * std::max(options.eps_scale, root_mean_square(parameter.detach()));
  // p -= rate * (u / excess + weight_decay * p)
  ops::sgd_step(parameter, direction, {.buffer = {}, .master = wide_copy(parameter)},
                {.lr = rate / excess, .weight_decay = options.weight_decay * excess});
}

std::vector<Optimizer::StateSpec> AdaLomo::state_specs(const Slot& slot) const {
  std::vector<StateSpec> specs;
  for (const auto& [name, shape] :
       adafactor_states(adafactor_options(options_of(slot)), slot.parameter.shape()))
    specs.push_back({name, shape});
  return specs;
}

}  // namespace tendril::optim
