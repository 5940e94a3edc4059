#include <tendril/core/ops/optimizer_step.h>
#include <tendril/optim/adamw.h>

namespace tendril::optim {

AdamW::AdamW(const std::vector<NamedTensor>& parameters, const AdamWOptions& options) {
  add_param_group(parameters, options);
}

AdamW::AdamW(const std::vector<Tensor>& parameters, const AdamWOptions& options)
    : AdamW(numbered(parameters), options) {}

void AdamW::add_param_group(const std::vector<NamedTensor>& parameters,
                            const AdamWOptions& options) {
  TENDRIL_CHECK(
      options.beta1 >= 0.0 && options.beta1 < 1.0 && options.beta2 >= 0.0 && options.beta2 < 1.0,
      "[AdamW] betas must be in [0, 1); got ", options.beta1, " and ", options.beta2);
  TENDRIL_CHECK(options.eps >= 0.0 && options.weight_decay >= 0.0,
                "[AdamW] eps and weight_decay must not be negative; got ", options.eps, " and ",
                options.weight_decay);
  register_group(parameters, options.lr);
  options_.push_back(options);
}

void AdamW::update_all(std::span<Slot* const> slots) {
  std::vector<ops::AdamWUpdate> updates;
  updates.reserve(slots.size());
  for (Slot* slot : slots) {
    const AdamWOptions& options = options_[slot->group];
    updates.push_back(
        {.parameter = slot->parameter,
         .gradient = slot->parameter.grad(),
         .state = {.mean = state_of(*slot, "exp_avg"),
                   .square = state_of(*slot, "exp_avg_sq"),
                   .max_square = options.amsgrad ? state_of(*slot, "max_exp_avg_sq") : Tensor(),
                   .master = master_of(*slot)},
         .options = {.lr = lr(slot->group),
                     .beta1 = options.beta1,
                     .beta2 = options.beta2,
                     .eps = options.eps,
                     .weight_decay = options.weight_decay,
                     .step = slot->step,
                     .maximize = options.maximize}});
  }
  ops::adamw_steps(updates);
}

std::vector<std::string> AdamW::state_names(size_t group) const {
  if (options_[group].amsgrad) return {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"};
  return {"exp_avg", "exp_avg_sq"};
}

}  // namespace tendril::optim
