// Saving and loading a module's state by name.
#include <tendril/autograd/tape.h>
#include <tendril/nn/module.h>

#include <algorithm>
#include <optional>

namespace tendril::nn {
namespace {

// A tensor of the module with all the names it can be reached by; the first is the canonical one.
struct Target {
  Tensor tensor;
  std::vector<std::string> names;
};

// Numbers may be rounded or widened within their kind, never silently change from fractions to
// integers.
bool convertible(DType from, DType to) {
  return from == to || (is_floating(from) && is_floating(to)) ||
         (!is_floating(from) && !is_floating(to) && size_of(from) <= size_of(to));
}

std::optional<std::string> problem_with(const std::string& name, const Tensor& target,
                                        const Tensor& source) {
  if (!source.defined()) return detail::concat(name, " is undefined");
  if (!(source.shape() == target.shape()))
    return detail::concat(name, " has shape ", source.shape(), ", the module needs ",
                          target.shape());
  if (!convertible(source.dtype(), target.dtype()))
    return detail::concat(name, " is ", source.dtype(), ", the module needs ", target.dtype());
  return {};
}

}  // namespace

StateDict Module::state_dict() const {
  std::vector<Tensor> seen;
  StateDict state;
  visit_tensors([&](const std::string& name, const Tensor& tensor, Slot slot) {
    if (slot == Slot::transient_buffer) return;
    const bool known = std::any_of(seen.begin(), seen.end(),
                                   [&](const Tensor& other) { return other.is_same(tensor); });
    if (known) return;
    seen.push_back(tensor);
    state.emplace(name, tensor.detach());
  });
  return state;
}

LoadReport Module::load_state_dict(const StateDict& state, const LoadOptions& options) {
  std::vector<Target> targets;
  visit_tensors([&](const std::string& name, const Tensor& tensor, Slot slot) {
    if (slot == Slot::transient_buffer) return;
    const auto known = std::find_if(targets.begin(), targets.end(),
                                    [&](const Target& t) { return t.tensor.is_same(tensor); });
    if (known == targets.end())
      targets.push_back({tensor, {name}});
    else
      known->names.push_back(name);
  });

  LoadReport report;
  std::vector<std::pair<Tensor, Tensor>> copies;  // destination, source
  std::vector<std::string> problems;
  StateDict unused = state;
  for (const Target& target : targets) {
    Tensor source;
    for (const std::string& name : target.names) {
      const auto found = unused.find(name);
      if (found == unused.end()) continue;
      if (const auto problem = problem_with(name, target.tensor, found->second))
        problems.push_back(*problem);
      else if (!source.defined()) {
        source = found->second;
        if (source.dtype() != target.tensor.dtype()) report.converted.push_back(name);
      }
      unused.erase(found);
    }
    if (source.defined())
      copies.emplace_back(target.tensor, source);
    else if (std::none_of(target.names.begin(), target.names.end(),
                          [&](const std::string& name) { return state.contains(name); }))
      report.missing.push_back(target.names.front());
  }
  for (const auto& [name, tensor] : unused) report.unexpected.push_back(name);

  if (options.strict) {
    for (const std::string& name : report.missing) problems.push_back(name + " is missing");
    for (const std::string& name : report.unexpected)
      problems.push_back(name + " is not part of the module");
  }
  if (!problems.empty()) {
    std::string text;
    for (const std::string& problem : problems) text += "\n  " + problem;
    fail("[load_state_dict] the state does not fit ", type_name(), "; got ", problems.size(),
         problems.size() == 1 ? " problem:" : " problems:", text);
  }

  const NoGradGuard no_grad;
  for (const auto& [destination, source] : copies) {
    const Tensor local = source.device() == destination.device()
                             ? source
                             : tendril::to(source, destination.device());
    copy_(destination, local);
  }
  return report;
}

}  // namespace tendril::nn
