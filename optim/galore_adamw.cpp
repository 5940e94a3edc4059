#include <tendril/core/creation.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/optim/galore.h>
#include <tendril/optim/rule_optimizer.h>

#include <cmath>

namespace tendril::optim {
namespace {

// The kernel adds eps to the corrected root, GaLore before the correction.
ops::AdamWStep kernel_step(const GaloreAdamWOptions& options, double lr, int64_t step) {
  const double correction = std::sqrt(1.0 - std::pow(options.beta2, static_cast<double>(step)));
  return {.lr = lr,
          .beta1 = options.beta1,
          .beta2 = options.beta2,
          .eps = options.eps / correction,
          .weight_decay = 0.0,
          .step = step};
}

// The kernel decays first: (1 - d) (p - s) = p - d p - (1 - d) s with d = lr * weight_decay.
void decay_afterwards(ops::AdamWStep& step, double weight_decay) {
  const double kept = 1.0 - step.lr * weight_decay;
  step.lr *= kept;
  step.weight_decay = weight_decay / kept;
}

}  // namespace

GaloreAdamW::GaloreAdamW(const std::vector<NamedTensor>& parameters,
                         const GaloreAdamWOptions& options) {
  add_param_group(parameters, options);
}

GaloreAdamW::GaloreAdamW(const std::vector<Tensor>& parameters, const GaloreAdamWOptions& options)
    : GaloreAdamW(numbered(parameters), options) {}

void GaloreAdamW::add_param_group(const std::vector<NamedTensor>& parameters,
                                  const GaloreAdamWOptions& options) {
  check_betas("GaloreAdamW", {options.beta1, options.beta2});
  check_not_negative("GaloreAdamW", "eps", options.eps);
  check_not_negative("GaloreAdamW", "weight_decay", options.weight_decay);
  TENDRIL_CHECK(options.lr * options.weight_decay < 1.0,
                "[GaloreAdamW] lr * weight_decay must be below 1; got ", options.lr, " and ",
                options.weight_decay);
  register_projected(parameters, options.lr, options.projection);
  options_.push_back(options);
}

// Parameters that are not projected take one fused pass each.
void GaloreAdamW::update_all(std::span<Slot* const> slots) {
  std::vector<Slot*> projected;
  std::vector<ops::AdamWUpdate> whole;
  for (Slot* slot : slots) {
    if (projection_of(*slot)) {
      projected.push_back(slot);
      continue;
    }
    const GaloreAdamWOptions& options = options_[slot->group];
    const std::vector<Tensor> moments = inner_states(*slot, slot->parameter.shape());
    whole.push_back({.parameter = slot->parameter,
                     .gradient = slot->parameter.grad(),
                     .state = {.mean = moments[0],
                               .square = moments[1],
                               .max_square = {},
                               .master = master_of(*slot)},
                     .options = kernel_step(options, lr(slot->group), slot->step)});
    decay_afterwards(whole.back().options, options.weight_decay);
  }
  ops::adamw_steps(whole);
  Optimizer::update_all(projected);
}

std::vector<Optimizer::StateSpec> GaloreAdamW::inner_specs(const Slot&,
                                                           const Shape& gradient) const {
  return {{"exp_avg", gradient}, {"exp_avg_sq", gradient}};
}

// The kernel moves a parameter; one that starts at zero has then moved by the step.
Tensor GaloreAdamW::inner_step(Slot& slot, const Tensor& gradient, const Tensor&, double lr) {
  const std::vector<Tensor> moments = inner_states(slot, gradient.shape());
  const Tensor moved = zeros(gradient.shape(), gradient.dtype(), gradient.device());
  ops::adamw_step(moved, gradient,
                  {.mean = moments[0], .square = moments[1], .max_square = {}, .master = {}},
                  kernel_step(options_[slot.group], lr, slot.step));
  return ops::neg(moved);
}

Tensor GaloreAdamW::next_value(const Slot& slot, const Tensor& value, const Tensor& change,
                               double lr) const {
  const Tensor next = ops::sub(value, change);
  const double decay = lr * options_[slot.group].weight_decay;
  return decay > 0.0 ? ops::sub(next, ops::mul(next, decay)) : next;
}

}  // namespace tendril::optim
