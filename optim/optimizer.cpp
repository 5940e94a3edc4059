#include <tendril/autograd/tape.h>
#include <tendril/core/allocator.h>
#include <tendril/core/creation.h>
#include <tendril/core/for_each_tensor.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/core/profiler.h>
#include <tendril/optim/layerwise.h>
#include <tendril/optim/optimizer.h>
#include <tendril/optim/optimizer_names.h>
#include <tendril/optim/steps_in_doubt.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace tendril::optim {
namespace {

// The state where its parameter is: the model may have moved to another device since it was made.
Tensor& on_device_of(const Tensor& parameter, Tensor& state) {
  if (state.device() == parameter.device()) return state;
  const LastingMemoryScope lasting;
  const Tensor moved = Tensor::empty(state.shape(), state.dtype(), parameter.device());
  ops::copy(moved, state);
  return state = moved;
}

void check_lr(const char* op, double lr) {
  TENDRIL_CHECK(std::isfinite(lr) && lr >= 0.0, "[", op,
                "] the learning rate must be finite and not negative; got ", lr);
}

}  // namespace

Optimizer::Optimizer() = default;
Optimizer::~Optimizer() = default;

void Optimizer::register_group(const std::vector<NamedTensor>& parameters, double lr) {
  check_lr("add_param_group", lr);
  std::vector<Slot> added;
  for (const NamedTensor& parameter : parameters) {
    const std::string& name = parameter.name;
    const Tensor& tensor = parameter.tensor;
    TENDRIL_CHECK(!name.empty(), "[add_param_group] a parameter needs a name");
    TENDRIL_CHECK(tensor.defined() && is_floating(tensor.dtype()) && tensor.is_contiguous(),
                  "[add_param_group] \"", name, "\" must be a dense floating-point tensor");
    TENDRIL_CHECK(tensor.is_leaf(), "[add_param_group] \"", name, "\" is the result of ",
                  producer(tensor), "; only leaves can be trained");
    const auto clashes = [&](const Slot& slot) {
      return slot.name == name || slot.parameter.is_same(tensor);
    };
    TENDRIL_CHECK(std::none_of(slots_.begin(), slots_.end(), clashes) &&
                      std::none_of(added.begin(), added.end(), clashes),
                  "[add_param_group] \"", name, "\" is in this optimizer already");
    added.push_back({name, tensor, groups_.size(), 0, {}, {}});
  }
  if (backward_updates_)
    for (size_t i = 0; i < added.size(); ++i)
      backward_updates_->watch(slots_.size() + i, added[i].parameter);
  settle_steps();
  in_doubt_.reset();  // it points to slots, which move
  groups_.push_back({lr, lr});
  slots_.insert(slots_.end(), added.begin(), added.end());
}

Tensor& Optimizer::state_of(Slot& slot, const std::string& name, double initial) {
  return state_of(slot, StateSpec{.name = name, .shape = slot.parameter.shape()}, initial);
}

Tensor& Optimizer::state_of(Slot& slot, const StateSpec& spec, double initial) {
  Tensor& tensor = slot.state[spec.name];
  if (tensor.defined()) return on_device_of(slot.parameter, tensor);
  const LastingMemoryScope lasting;
  tensor = full(spec.shape, initial, dtype_of_state(slot, spec), slot.parameter.device());
  return tensor;
}

DType Optimizer::dtype_of_state(const Slot& slot, const StateSpec& spec) {
  return spec.dtype.value_or(ops::state_dtype(slot.parameter.dtype()));
}

bool Optimizer::keeps_master(const Slot& slot) const { return has_master(slot.parameter); }

std::vector<Optimizer::StateSpec> Optimizer::like_parameter(
    const Slot& slot, std::initializer_list<const char*> names) {
  std::vector<StateSpec> specs;
  for (const char* name : names) specs.push_back({.name = name, .shape = slot.parameter.shape()});
  return specs;
}

Tensor Optimizer::master_of(Slot& slot) {
  if (!has_master(slot.parameter)) {
    slot.state.erase(kMaster);  // the parameter may have been widened since
    return {};
  }
  Tensor& master = slot.state[kMaster];
  if (master.defined()) return on_device_of(slot.parameter, master);
  const LastingMemoryScope lasting;
  master = ops::cast(slot.parameter, f32);
  return master;
}

void Optimizer::step() {
  const ProfileRange range("optimizer step");
  update_counted(slots_with_gradients());
}

std::vector<Optimizer::Slot*> Optimizer::slots_with_gradients() {
  std::vector<Slot*> found;
  for (Slot& slot : slots_)
    if (slot.parameter.grad().defined()) found.push_back(&slot);
  return found;
}

void Optimizer::step_parameter(size_t index) {
  TENDRIL_CHECK(index < slots_.size(), "[step_parameter] parameter ", index,
                " does not exist; there are ", slots_.size());
  Slot* const slot = &slots_[index];
  if (slot->parameter.grad().defined()) update_counted({&slot, 1});
}

void Optimizer::update_counted(std::span<Slot* const> slots) {
  settle_steps();
  for (Slot* slot : slots) ++slot->step;
  try {
    update_all(slots);
  } catch (...) {  // a step that was refused does not count
    for (Slot* slot : slots) --slot->step;
    throw;
  }
}

void Optimizer::update_all(std::span<Slot* const> slots) {
  // A GPU's work is queued by this thread alone, on its stream: there no parameter is small.
  const auto size = [&](size_t i) {
    const Tensor& parameter = slots[i]->parameter;
    return parameter.device().is_cpu() ? parameter.numel() : std::numeric_limits<int64_t>::max();
  };
  for_each_tensor(slots.size(), size, [&](size_t i) {
    const NoGradGuard no_grad;  // of the thread that runs this
    update(*slots[i], slots[i]->parameter.grad(), lr(slots[i]->group));
  });
}

void Optimizer::update(Slot& slot, const Tensor&, double) {
  fail("[step] this optimizer overrides neither update() nor update_all(); got the parameter \"",
       slot.name, "\"");
}

void Optimizer::zero_grad() {
  const ProfileRange range("zero_grad");
  for (Slot& slot : slots_) slot.parameter.set_grad({});
}

std::vector<Tensor> Optimizer::parameters() const {
  std::vector<Tensor> list;
  for (const Slot& slot : slots_) list.push_back(slot.parameter);
  return list;
}

double Optimizer::lr(size_t group) const {
  TENDRIL_CHECK(group < groups_.size(), "[lr] group ", group, " does not exist; there are ",
                groups_.size());
  return groups_[group].lr;
}

void Optimizer::set_lr(double lr) {
  for (size_t i = 0; i < groups_.size(); ++i) set_lr(i, lr);
}

void Optimizer::set_lr(size_t group, double lr) {
  TENDRIL_CHECK(group < groups_.size(), "[set_lr] group ", group, " does not exist; there are ",
                groups_.size());
  check_lr("set_lr", lr);
  groups_[group].lr = lr;
}

void Optimizer::scale_lr(double factor) {
  for (const Group& group : groups_) check_lr("scale_lr", group.base_lr * factor);
  for (Group& group : groups_) group.lr = group.base_lr * factor;
}

std::vector<NamedTensor> numbered(const std::vector<Tensor>& parameters) {
  std::vector<NamedTensor> list;
  for (const Tensor& parameter : parameters)
    list.push_back({std::to_string(list.size()), parameter});
  return list;
}

DecaySplit split_for_decay(const std::vector<NamedTensor>& parameters) {
  DecaySplit split;
  for (const NamedTensor& entry : parameters)
    (entry.tensor.rank() >= 2 ? split.decayed : split.kept).push_back(entry);
  return split;
}

}  // namespace tendril::optim
