#include <tendril/core/ops/pointwise.h>
#include <tendril/optim/exact.h>
#include <tendril/optim/galore.h>
#include <tendril/optim/low_rank.h>

namespace tendril::optim {

void Galore::register_projected(const std::vector<NamedTensor>& parameters, double lr,
                                const std::optional<ProjectionOptions>& projection) {
  if (projection)
    for (const NamedTensor& entry : parameters)
      TENDRIL_CHECK(!entry.tensor.defined() || entry.tensor.rank() == 2, "[Galore] \"", entry.name,
                    "\" is no matrix; got shape ", entry.tensor.shape(),
                    "; put it into a group without a projection");
  register_with("Galore", parameters, lr, projection);
}

void Galore::update(Slot& slot, const Tensor& given, double lr) {
  const Tensor gradient = in_state_dtype(given, slot.parameter);
  const Tensor master = master_of(slot);
  const Tensor value = exact_value(slot.parameter, master);
  Tensor change;
  if (const ProjectionOptions* const projection = projection_of(slot)) {
    const Basis basis = basis_for(slot, gradient);
    const Tensor step = inner_step(slot, project(basis, gradient), value, lr);
    change = project_back(basis, ops::mul(step, projection->scale));
  } else {
    change = inner_step(slot, gradient, value, lr);
  }
  set_exact(slot.parameter, master, next_value(slot, value, change, lr));
}

std::vector<Optimizer::StateSpec> Galore::state_specs(const Slot& slot) const {
  const Shape& shape = slot.parameter.shape();
  const ProjectionOptions* const projection = projection_of(slot);
  if (!projection) return inner_specs(slot, shape);
  std::vector<StateSpec> specs = inner_specs(slot, projected_shape(*projection, shape));
  for (const StateSpec& spec : basis_specs(slot)) specs.push_back(spec);
  return specs;
}

std::vector<std::string> Galore::number_names(const Slot& slot) const {
  return projection_of(slot) ? basis_numbers() : std::vector<std::string>();
}

std::vector<Tensor> Galore::inner_states(Slot& slot, const Shape& gradient) {
  std::vector<Tensor> states;
  for (const StateSpec& spec : inner_specs(slot, gradient)) states.push_back(state_of(slot, spec));
  return states;
}

}  // namespace tendril::optim
