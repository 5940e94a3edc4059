#include <tendril/core/creation.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/optim/galore.h>
#include <tendril/optim/raw_root_adamw.h>
#include <tendril/optim/rule_optimizer.h>

namespace tendril::optim {

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
  check_late_decay("GaloreAdamW", options.lr, options.weight_decay);
  register_projected(parameters, options.lr, options.projection);
  options_.push_back(options);
}

// Parameters that are not projected take one fused pass each.
void GaloreAdamW::update_all(std::span<Slot* const> slots) {
  std::vector<Slot*> projected, whole;
  for (Slot* slot : slots) (projection_of(*slot) ? projected : whole).push_back(slot);
  update_whole(whole, [&](const Slot& slot) {
    const GaloreAdamWOptions& options = options_[slot.group];
    return WholeAdamW{options.beta1, options.beta2, options.eps, options.weight_decay};
  });
  Optimizer::update_all(projected);
}

std::vector<Optimizer::StateSpec> GaloreAdamW::inner_specs(const Slot&,
                                                           const Shape& gradient) const {
  return {{"exp_avg", gradient}, {"exp_avg_sq", gradient}};
}

// The kernel moves a parameter; one that starts at zero has then moved by the step.
Tensor GaloreAdamW::inner_step(Slot& slot, const Tensor& gradient, const Tensor&, double lr) {
  const GaloreAdamWOptions& options = options_[slot.group];
  const std::vector<Tensor> moments = inner_states(slot, gradient.shape());
  const Tensor moved = zeros(gradient.shape(), gradient.dtype(), gradient.device());
  ops::adamw_step(moved, gradient,
                  {.mean = moments[0], .square = moments[1], .max_square = {}, .master = {}},
                  raw_root_step(lr, options.beta1, options.beta2, options.eps, slot.step));
  return ops::neg(moved);
}

Tensor GaloreAdamW::next_value(const Slot& slot, const Tensor& value, const Tensor& change,
                               double lr) const {
  return decayed(ops::sub(value, change), lr * options_[slot.group].weight_decay);
}

}  // namespace tendril::optim
