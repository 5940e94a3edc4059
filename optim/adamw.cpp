#include <tendril/core/ops/optimizer_step.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/optimizer_names.h>
#include <tendril/optim/rounding.h>
#include <tendril/optim/rule_optimizer.h>

namespace tendril::optim {
namespace {

const char* name_of(const AdamWOptions&) { return "AdamW"; }
const char* name_of(const AdamOptions&) { return "Adam"; }

void set_decay(ops::AdamWStep& step, const AdamWOptions& options) {
  step.weight_decay = options.weight_decay;
}

void set_decay(ops::AdamWStep& step, const AdamOptions& options) {
  step.weight_decay = 0.0;
  step.l2 = options.weight_decay;
}

// Those of the parameter's random rounding, if its options ask for it.
std::optional<RandomKey> rounding_of(const AdamWOptions& options, const std::string& name,
                                     const Tensor& parameter, int64_t step) {
  if (!rounds_at_random("AdamW", options.stochastic_rounding, parameter)) return {};
  return rounding_key(options.rounding_seed, name, step);
}

std::optional<RandomKey> rounding_of(const AdamOptions&, const std::string&, const Tensor&,
                                     int64_t) {
  return {};
}

}  // namespace

template <class Options>
void AdamFamily<Options>::check(const Options& options) const {
  const char* const name = name_of(options);
  check_betas(name, {options.beta1, options.beta2});
  check_not_negative(name, "eps", options.eps);
  check_not_negative(name, "weight_decay", options.weight_decay);
}

template <class Options>
void AdamFamily<Options>::update_all(std::span<Slot* const> slots) {
  std::vector<ops::AdamWUpdate> updates;
  updates.reserve(slots.size());
  for (Slot* slot : slots) {
    const Options& options = this->options_of(*slot);
    const auto rounding = rounding_of(options, slot->name, slot->parameter, slot->step);
    updates.push_back(
        {.parameter = slot->parameter,
         .gradient = slot->parameter.grad(),
         .state = {.mean = this->state_of(*slot, "exp_avg"),
                   .square = this->state_of(*slot, "exp_avg_sq"),
                   .max_square =
                       options.amsgrad ? this->state_of(*slot, "max_exp_avg_sq") : Tensor(),
                   .master = rounding ? Tensor() : this->master_of(*slot)},
         .options = {.lr = this->lr(slot->group),
                     .beta1 = options.beta1,
                     .beta2 = options.beta2,
                     .eps = options.eps,
                     .step = slot->step,
                     .maximize = options.maximize},
         .rounding = rounding});
    set_decay(updates.back().options, options);
  }
  ops::adamw_steps(updates, this->gate());
}

template <class Options>
bool AdamFamily<Options>::keeps_master(const Slot& slot) const {
  return has_master(slot.parameter) &&
         !rounding_of(this->options_of(slot), slot.name, slot.parameter, slot.step);
}

template <class Options>
std::vector<Optimizer::StateSpec> AdamFamily<Options>::state_specs(const Slot& slot) const {
  if (this->options_of(slot).amsgrad)
    return this->like_parameter(slot, {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"});
  return this->like_parameter(slot, {"exp_avg", "exp_avg_sq"});
}

template class AdamFamily<AdamWOptions>;
template class AdamFamily<AdamOptions>;

AdamW::AdamW(const std::vector<NamedTensor>& parameters, const AdamWOptions& options) {
  add_param_group(parameters, options);
}

AdamW::AdamW(const std::vector<Tensor>& parameters, const AdamWOptions& options)
    : AdamW(numbered(parameters), options) {}

Adam::Adam(const std::vector<NamedTensor>& parameters, const AdamOptions& options) {
  add_param_group(parameters, options);
}

Adam::Adam(const std::vector<Tensor>& parameters, const AdamOptions& options)
    : Adam(numbered(parameters), options) {}

}  // namespace tendril::optim
