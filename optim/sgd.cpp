#include <tendril/core/ops/optimizer_step.h>
#include <tendril/optim/optimizer_names.h>
#include <tendril/optim/rounding.h>
#include <tendril/optim/sgd.h>

namespace tendril::optim {
namespace {

std::optional<RandomKey> rounding_of(const SgdOptions& options, const std::string& name,
                                     const Tensor& parameter, int64_t step) {
  if (!rounds_at_random("Sgd", options.stochastic_rounding, parameter)) return {};
  return rounding_key(options.rounding_seed, name, step);
}

}  // namespace

Sgd::Sgd(const std::vector<NamedTensor>& parameters, const SgdOptions& options) {
  add_param_group(parameters, options);
}

Sgd::Sgd(const std::vector<Tensor>& parameters, const SgdOptions& options)
    : Sgd(numbered(parameters), options) {}

void Sgd::check(const SgdOptions& options) const {
  TENDRIL_CHECK(options.momentum >= 0.0 && options.weight_decay >= 0.0,
                "[Sgd] momentum and weight_decay must not be negative; got ", options.momentum,
                " and ", options.weight_decay);
  TENDRIL_CHECK(!options.nesterov || (options.momentum > 0.0 && options.dampening == 0.0),
                "[Sgd] Nesterov needs momentum and no dampening; got momentum ", options.momentum,
                ", dampening ", options.dampening);
}

void Sgd::update_all(std::span<Slot* const> slots) {
  std::vector<ops::SgdUpdate> updates;
  updates.reserve(slots.size());
  for (Slot* slot : slots) {
    const SgdOptions& options = options_of(*slot);
    const bool with_buffer = options.momentum > 0.0;
    const auto rounding = rounding_of(options, slot->name, slot->parameter, slot->step);
    updates.push_back(
        {.parameter = slot->parameter,
         .gradient = slot->parameter.grad(),
         .state = {.buffer = with_buffer ? state_of(*slot, "momentum_buffer") : Tensor(),
                   .master = rounding ? Tensor() : master_of(*slot)},
         .options = {.lr = lr(slot->group),
                     .momentum = options.momentum,
                     .dampening = options.dampening,
                     .weight_decay = options.weight_decay,
                     .nesterov = options.nesterov,
                     .first = slot->step == 1,
                     .maximize = options.maximize},
         .rounding = rounding});
  }
  ops::sgd_steps(updates, gate());
}

bool Sgd::keeps_master(const Slot& slot) const {
  return has_master(slot.parameter) &&
         !rounding_of(options_of(slot), slot.name, slot.parameter, slot.step);
}

std::vector<Optimizer::StateSpec> Sgd::state_specs(const Slot& slot) const {
  if (options_of(slot).momentum > 0.0) return like_parameter(slot, {"momentum_buffer"});
  return {};
}

}  // namespace tendril::optim
