// Saving and loading what an optimizer has accumulated.
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/optim/optimizer.h>
#include <tendril/optim/optimizer_names.h>
#include <tendril/optim/steps_in_doubt.h>

#include <set>

namespace tendril::optim {
namespace {

// The entries of a state dict by name, which remembers the ones that were asked for.
class Entries {
 public:
  explicit Entries(const StateDict& state) : state_(state) {}

  Tensor find(const std::string& name) {
    const auto found = state_.find(name);
    if (found == state_.end()) return {};
    used_.insert(name);
    return found->second;
  }
  std::string unused() const {
    std::string list;
    for (const auto& [name, tensor] : state_)
      if (!used_.contains(name)) list += "\n  " + name + " belongs to no parameter";
    return list;
  }

 private:
  const StateDict& state_;
  std::set<std::string> used_;
};

// What is wrong with the step count of a parameter that has one.
std::string step_problem(const std::string& name, const Tensor& step) {
  if (step.numel() != 1 || is_floating(step.dtype()))
    return detail::concat("\n  ", name, ".step must be one integer; got ", step.dtype(), " ",
                          step.shape());
  if (step.item<int64_t>() < 1)
    return detail::concat("\n  ", name, ".step must be positive; got ", step.item<int64_t>());
  return "";
}

// What is wrong with an entry, undefined when it is missing; `updated`: the parameter has a step.
// Floating-point state may come in any such dtype, codes in their own alone.
std::string entry_problem(const std::string& name, const Tensor& tensor, const Shape& shape,
                          DType dtype, bool updated) {
  if (tensor.defined() != updated)
    return "\n  " + name + (updated ? " is missing" : " comes without a step");
  if (!tensor.defined()) return "";
  const bool fits = is_floating(dtype) ? is_floating(tensor.dtype()) : tensor.dtype() == dtype;
  if (fits && tensor.shape() == shape) return "";
  const std::string wanted = is_floating(dtype) ? "floating-point" : tendril::name(dtype);
  return detail::concat("\n  ", name, " must be ", wanted, " of shape ", shape, "; got ",
                        tensor.dtype(), " ", tensor.shape());
}

// The same values in memory of the optimizer's own.
Tensor owned(const Tensor& source, DType dtype, Device device) {
  const Tensor copy = Tensor::empty(source.shape(), dtype, device);
  ops::copy(copy, source);
  return copy;
}

}  // namespace

StateDict Optimizer::state_dict() const {
  StateDict state;
  for (const Slot& slot : slots_) {
    const int64_t steps = steps_of(slot);
    if (steps == 0) continue;
    state.emplace(slot.name + "." + kStep, Tensor::from({steps}, {1}));
    for (const auto& [name, tensor] : slot.state) state.emplace(slot.name + "." + name, tensor);
    for (const auto& [name, number] : slot.numbers)
      state.emplace(slot.name + "." + name, Tensor::from({number}, {1}));
  }
  return state;
}

std::vector<Optimizer::StateSpec> Optimizer::expected_state(const Slot& slot) const {
  std::vector<StateSpec> specs = state_specs(slot);
  if (keeps_master(slot)) specs.push_back({.name = kMaster, .shape = slot.parameter.shape()});
  return specs;
}

int64_t Optimizer::state_bytes() const {
  int64_t bytes = 0;
  for (const Slot& slot : slots_)
    for (const StateSpec& spec : expected_state(slot))
      bytes += spec.shape.numel() * size_of(dtype_of_state(slot, spec));
  return bytes;
}

void Optimizer::load_state_dict(const StateDict& state) {
  settle_steps();
  Entries entries(state);
  struct Found {
    Slot* slot;
    StateSpec spec;
    Tensor tensor;
  };
  std::vector<Slot> loaded;
  loaded.reserve(slots_.size());
  std::vector<Found> found;
  std::string problems;
  for (const Slot& slot : slots_) {
    Slot& fresh = loaded.emplace_back(slot);
    fresh.step = 0;
    fresh.state.clear();
    fresh.numbers.clear();
    const Tensor step = entries.find(slot.name + "." + kStep);
    if (step.defined()) {
      const std::string problem = step_problem(slot.name, step);
      problems += problem;
      if (problem.empty()) fresh.step = step.item<int64_t>();
    }
    const auto take = [&](const std::string& name, const Shape& shape, DType dtype) {
      const Tensor tensor = entries.find(slot.name + "." + name);
      const std::string problem =
          entry_problem(slot.name + "." + name, tensor, shape, dtype, step.defined());
      problems += problem;
      return problem.empty() ? tensor : Tensor();
    };
    for (const StateSpec& spec : expected_state(slot))
      if (const Tensor tensor = take(spec.name, spec.shape, dtype_of_state(slot, spec));
          tensor.defined())
        found.push_back({&fresh, spec, tensor});
    for (const std::string& name : number_names(slot))
      if (const Tensor tensor = take(name, {1}, f64); tensor.defined())
        fresh.numbers[name] = tensor.item<double>();
  }
  problems += entries.unused();
  TENDRIL_CHECK(problems.empty(),
                "[load_state_dict] the state does not fit this optimizer:", problems);

  for (const Found& entry : found)
    entry.slot->state[entry.spec.name] = owned(
        entry.tensor, dtype_of_state(*entry.slot, entry.spec), entry.slot->parameter.device());
  slots_ = std::move(loaded);
  in_doubt_.reset();  // it points to slots
}

}  // namespace tendril::optim
