#include <cxxabi.h>
#include <tendril/autograd/tape.h>
#include <tendril/nn/module.h>

#include <algorithm>
#include <cstdlib>
#include <typeinfo>

namespace tendril::nn {
namespace {

std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

// Collects tensors under their first name. A model has at most a few thousand of them.
void add_unique(std::vector<NamedTensor>& list, const std::string& name, const Tensor& tensor) {
  const bool known = std::any_of(list.begin(), list.end(), [&](const NamedTensor& entry) {
    return entry.tensor.is_same(tensor);
  });
  if (!known) list.push_back({name, tensor});
}

}  // namespace

Module::~Module() = default;

void Module::check_new_name(const char* op, const std::string& name) const {
  TENDRIL_CHECK(!name.empty() && name.find('.') == std::string::npos, "[", op,
                "] a local name must not be empty or contain '.'; got \"", name, "\" in ",
                type_name());
  const auto has_name = [&](const auto& entry) { return entry.name == name; };
  TENDRIL_CHECK(std::none_of(parameters_.begin(), parameters_.end(), has_name) &&
                    std::none_of(buffers_.begin(), buffers_.end(), has_name) &&
                    std::none_of(children_.begin(), children_.end(), has_name),
                "[", op, "] ", type_name(), " already has something called \"", name,
                "\"; choose another name");
}

bool Module::reaches(const Module& other) const {
  return this == &other || std::any_of(children_.begin(), children_.end(), [&](const Child& child) {
           return child.module->reaches(other);
         });
}

void Module::add(const std::string& name, Module& child) {
  check_new_name("add", name);
  TENDRIL_CHECK(!child.reaches(*this), "[add] \"", name,
                "\" would make a module its own descendant");
  children_.push_back({name, &child, nullptr});
}

void Module::add(const std::string& name, std::shared_ptr<Module> child) {
  TENDRIL_CHECK(child, "[add] the child \"", name, "\" is null");
  add(name, *child);
  children_.back().owner = std::move(child);
}

Tensor Module::add_parameter(const std::string& name, Tensor value) {
  check_new_name("add_parameter", name);
  TENDRIL_CHECK(value.defined(), "[add_parameter] \"", name, "\" is undefined; got no tensor");
  value.requires_grad_();
  parameters_.push_back({name, value});
  return value;
}

Tensor Module::add_buffer(const std::string& name, Tensor value, bool persistent) {
  check_new_name("add_buffer", name);
  TENDRIL_CHECK(value.defined(), "[add_buffer] \"", name, "\" is undefined; got no tensor");
  buffers_.push_back({name, value, persistent});
  return value;
}

void Module::visit_modules(const std::string& prefix,
                           const std::function<void(const std::string&, Module&)>& visit) {
  visit(prefix, *this);
  for (const Child& child : children_) child.module->visit_modules(join(prefix, child.name), visit);
}

void Module::for_each_module(const std::function<void(const std::string&, Module&)>& visit) {
  visit_modules("", visit);
}

void Module::visit_tensors(const SlotVisitor& visit) const {
  // Visiting modules hands them out mutable; nothing here changes them.
  const_cast<Module*>(this)->visit_modules("", [&](const std::string& prefix, Module& module) {
    for (const auto& [name, tensor] : module.parameters_)
      visit(join(prefix, name), tensor, Slot::parameter);
    for (const auto& [name, tensor, persistent] : module.buffers_)
      visit(join(prefix, name), tensor, persistent ? Slot::buffer : Slot::transient_buffer);
  });
}

std::vector<NamedTensor> Module::named_parameters() const {
  std::vector<NamedTensor> list;
  visit_tensors([&](const std::string& name, const Tensor& tensor, Slot slot) {
    if (slot == Slot::parameter) add_unique(list, name, tensor);
  });
  return list;
}

std::vector<NamedTensor> Module::named_buffers() const {
  std::vector<NamedTensor> list;
  visit_tensors([&](const std::string& name, const Tensor& tensor, Slot slot) {
    if (slot != Slot::parameter) add_unique(list, name, tensor);
  });
  return list;
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> list;
  for (const NamedTensor& entry : named_parameters()) list.push_back(entry.tensor);
  return list;
}

Tensor Module::parameter(const std::string& wanted) const {
  Tensor found;
  visit_tensors([&](const std::string& name, const Tensor& tensor, Slot slot) {
    if (slot == Slot::parameter && name == wanted) found = tensor;
  });
  TENDRIL_CHECK(found.defined(), "[parameter] ", type_name(), " has no parameter \"", wanted,
                "\"; summary(module) lists them");
  return found;
}

int64_t Module::parameter_count(bool trainable_only) const {
  int64_t count = 0;
  for (const auto& [name, tensor] : named_parameters())
    if (!trainable_only || tensor.requires_grad()) count += tensor.numel();
  return count;
}

std::string Module::type_name() const {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(typeid(*this).name(), nullptr, nullptr, &status), std::free);
  std::string name = status == 0 ? text.get() : typeid(*this).name();
  name = name.substr(0, name.find('<'));
  const size_t colon = name.rfind(':');
  return colon == std::string::npos ? name : name.substr(colon + 1);
}

void Module::train(bool mode) {
  visit_modules("", [mode](const std::string&, Module& module) { module.training_ = mode; });
}

// One conversion per tensor: a tied weight must not be converted, and so split, twice.
void Module::convert(const std::function<Tensor(const Tensor&)>& conversion) {
  const NoGradGuard no_grad;
  for (auto& [name, tensor] : named_parameters()) {
    const Tensor grad = tensor.grad();
    tensor.set_data(conversion(tensor));
    if (grad.defined()) tensor.set_grad(conversion(grad));
  }
  for (auto& [name, tensor] : named_buffers()) tensor.set_data(conversion(tensor));
}

void Module::to(DType dtype) {
  TENDRIL_CHECK(is_floating(dtype), "[to] a module's parameters must be floating-point; got ",
                dtype);
  convert([dtype](const Tensor& x) { return is_floating(x.dtype()) ? tendril::to(x, dtype) : x; });
}

void Module::to(Device device) {
  convert([device](const Tensor& x) { return tendril::to(x, device); });
}

void Module::set_gradient_checkpointing(bool enabled) {
  TENDRIL_CHECK(!enabled, "[set_gradient_checkpointing] ", type_name(),
                " does not know how to recompute its activations; override "
                "set_gradient_checkpointing(), or leave it off");
}

void Module::zero_grad() {
  for (auto& [name, tensor] : named_parameters()) tensor.set_grad({});
}

void Module::requires_grad_(bool value) {
  for (auto& [name, tensor] : named_parameters()) tensor.requires_grad_(value);
}

}  // namespace tendril::nn
