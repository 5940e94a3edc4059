#include <tendril/core/profiler.h>
#include <tendril/optim/low_rank.h>
#include <tendril/optim/projected.h>
#include <tendril/optim/raw_root_adamw.h>

#include <cmath>

namespace tendril::optim {
namespace {

constexpr const char* kLeftBasis = "left_basis";
constexpr const char* kRightBasis = "right_basis";
constexpr const char* kRefreshedAt = "refreshed_at";

void check_projection(const char* optimizer, const ProjectionOptions& options) {
  TENDRIL_CHECK(options.rank >= 1 && options.update_proj_gap >= 1, "[", optimizer,
                "] rank and update_proj_gap must be positive; got ", options.rank, " and ",
                options.update_proj_gap);
  TENDRIL_CHECK(std::isfinite(options.scale), "[", optimizer, "] scale must be finite; got ",
                options.scale);
  TENDRIL_CHECK(options.oversampling >= 0 && options.power_iterations >= 0, "[", optimizer,
                "] oversampling and power_iterations must not be negative; got ",
                options.oversampling, " and ", options.power_iterations);
}

}  // namespace

void Projected::register_with(const char* optimizer, const std::vector<NamedTensor>& parameters,
                              double lr, const std::optional<ProjectionOptions>& projection) {
  if (projection) check_projection(optimizer, *projection);
  register_group(parameters, lr);
  projections_.push_back(projection);
}

const ProjectionOptions* Projected::projection_of(const Slot& slot) const {
  const std::optional<ProjectionOptions>& options = projections_[slot.group];
  return options && slot.parameter.rank() == 2 ? &*options : nullptr;
}

// Among all parameters, in the order of registration.
int64_t Projected::number_of(const Slot& slot) { return &slot - slots().data(); }

bool Projected::is_due(const Slot& slot) {
  const ProjectionOptions& options = *projection_of(slot);
  if (slot.numbers.at(kRefreshedAt) < 0.0) return true;
  int64_t offset = 0;
  if (options.staggered) {
    int64_t before = 0, all = 0;
    for (const Slot& other : slots()) {
      if (!projection_of(other)) continue;
      if (&other < &slot) ++before;
      ++all;
    }
    offset = before * options.update_proj_gap / all;
  }
  return (slot.step - 1) % options.update_proj_gap == offset;
}

Basis Projected::basis_for(Slot& slot, const Tensor& gradient) {
  const ProjectionOptions& options = *projection_of(slot);
  const Sides sides = sides_of(options.type, gradient.shape());
  const int64_t rank = projection_rank(options, gradient.shape());
  Basis basis;
  if (sides.left) basis.left = state_of(slot, {kLeftBasis, {gradient.shape()[0], rank}});
  if (sides.right) basis.right = state_of(slot, {kRightBasis, {rank, gradient.shape()[1]}});
  slot.numbers.try_emplace(kRefreshedAt, -1.0);
  if (is_due(slot) && has_directions(gradient)) {
    const ProfileRange range("low-rank basis");
    const int64_t step = slot.step - 1;
    const auto position =
        static_cast<uint64_t>(number_of(slot)) << 32 ^ static_cast<uint64_t>(step);
    find_basis(basis, gradient, options,
               {.seed = options.seed, .position = position, .stream = Stream::noise});
    slot.numbers[kRefreshedAt] = static_cast<double>(step);
  }
  return basis;
}

std::vector<Optimizer::StateSpec> Projected::basis_specs(const Slot& slot) const {
  const ProjectionOptions& options = *projection_of(slot);
  const Shape& shape = slot.parameter.shape();
  const Sides sides = sides_of(options.type, shape);
  const int64_t rank = projection_rank(options, shape);
  std::vector<StateSpec> specs;
  if (sides.left) specs.push_back({kLeftBasis, {shape[0], rank}});
  if (sides.right) specs.push_back({kRightBasis, {rank, shape[1]}});
  return specs;
}

std::vector<std::string> Projected::basis_numbers() { return {kRefreshedAt}; }

void Projected::update_whole(std::span<Slot* const> slots,
                             const std::function<WholeAdamW(const Slot&)>& rule_of) {
  std::vector<ops::AdamWUpdate> updates;
  for (Slot* slot : slots) {
    const WholeAdamW rule = rule_of(*slot);
    ops::AdamWStep step =
        raw_root_step(lr(slot->group), rule.beta1, rule.beta2, rule.eps, slot->step);
    decay_afterwards(step, rule.weight_decay);
    updates.push_back({.parameter = slot->parameter,
                       .gradient = slot->parameter.grad(),
                       .state = {.mean = state_of(*slot, "exp_avg"),
                                 .square = state_of(*slot, "exp_avg_sq"),
                                 .max_square = {},
                                 .master = master_of(*slot)},
                       .options = step});
  }
  ops::adamw_steps(updates);
}

}  // namespace tendril::optim
