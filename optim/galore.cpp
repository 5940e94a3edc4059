#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/core/profiler.h>
#include <tendril/optim/exact.h>
#include <tendril/optim/galore.h>
#include <tendril/optim/low_rank.h>

#include <algorithm>
#include <cmath>

namespace tendril::optim {
namespace {

constexpr const char* kLeftBasis = "left_basis";
constexpr const char* kRightBasis = "right_basis";
constexpr const char* kRefreshedAt = "refreshed_at";

void check_projection(const ProjectionOptions& options) {
  TENDRIL_CHECK(options.rank >= 1 && options.update_proj_gap >= 1,
                "[Galore] rank and update_proj_gap must be positive; got ", options.rank, " and ",
                options.update_proj_gap);
  TENDRIL_CHECK(std::isfinite(options.scale), "[Galore] scale must be finite; got ", options.scale);
  TENDRIL_CHECK(options.oversampling >= 0 && options.power_iterations >= 0,
                "[Galore] oversampling and power_iterations must not be negative; got ",
                options.oversampling, " and ", options.power_iterations);
}

}  // namespace

void Galore::register_projected(const std::vector<NamedTensor>& parameters, double lr,
                                const std::optional<ProjectionOptions>& projection) {
  if (projection) {
    check_projection(*projection);
    for (const NamedTensor& entry : parameters)
      TENDRIL_CHECK(!entry.tensor.defined() || entry.tensor.rank() == 2, "[Galore] \"", entry.name,
                    "\" is no matrix; got shape ", entry.tensor.shape(),
                    "; put it into a group without a projection");
  }
  register_group(parameters, lr);
  projections_.push_back(projection);
}

// Among all parameters, in the order of registration.
int64_t Galore::number_of(const Slot& slot) { return &slot - slots().data(); }

bool Galore::is_due(const Slot& slot) {
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

Tensor Galore::projected_change(Slot& slot, const Tensor& gradient, const Tensor& value,
                                double lr) {
  const ProjectionOptions& options = *projection_of(slot);
  const Sides sides = sides_of(options.type, gradient.shape());
  const int64_t rank = projection_rank(options, gradient.shape());
  Basis basis;
  if (sides.left) basis.left = state_of(slot, {kLeftBasis, {gradient.shape()[0], rank}});
  if (sides.right) basis.right = state_of(slot, {kRightBasis, {rank, gradient.shape()[1]}});
  slot.numbers.try_emplace(kRefreshedAt, -1.0);
  if (is_due(slot) && has_directions(gradient)) {
    const ProfileRange range("GaLore basis");
    const int64_t step = slot.step - 1;
    const auto position =
        static_cast<uint64_t>(number_of(slot)) << 32 ^ static_cast<uint64_t>(step);
    find_basis(basis, gradient, options,
               {.seed = options.seed, .position = position, .stream = Stream::noise});
    slot.numbers[kRefreshedAt] = static_cast<double>(step);
  }
  const Tensor step = inner_step(slot, project(basis, gradient), value, lr);
  return project_back(basis, ops::mul(step, options.scale));
}

void Galore::update(Slot& slot, const Tensor& given, double lr) {
  const Tensor gradient = in_state_dtype(given, slot.parameter);
  const Tensor master = master_of(slot);
  const Tensor value = exact_value(slot.parameter, master);
  const Tensor change = projection_of(slot) ? projected_change(slot, gradient, value, lr)
                                            : inner_step(slot, gradient, value, lr);
  set_exact(slot.parameter, master, next_value(slot, value, change, lr));
}

std::vector<Optimizer::StateSpec> Galore::state_specs(const Slot& slot) const {
  const Shape& shape = slot.parameter.shape();
  if (!projection_of(slot)) return inner_specs(slot, shape);
  const ProjectionOptions& options = *projection_of(slot);
  const Sides sides = sides_of(options.type, shape);
  const int64_t rank = projection_rank(options, shape);
  std::vector<StateSpec> specs = inner_specs(slot, projected_shape(options, shape));
  if (sides.left) specs.push_back({kLeftBasis, {shape[0], rank}});
  if (sides.right) specs.push_back({kRightBasis, {rank, shape[1]}});
  return specs;
}

std::vector<std::string> Galore::number_names(const Slot& slot) const {
  if (!projection_of(slot)) return {};
  return {kRefreshedAt};
}

std::vector<Tensor> Galore::inner_states(Slot& slot, const Shape& gradient) {
  std::vector<Tensor> states;
  for (const StateSpec& spec : inner_specs(slot, gradient)) states.push_back(state_of(slot, spec));
  return states;
}

}  // namespace tendril::optim
