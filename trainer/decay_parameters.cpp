#include <tendril/trainer/decay_parameters.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <sstream>

namespace tendril {
namespace {

bool is_norm_module(const std::string& type) {
  return type.find("LayerNorm") != std::string::npos || type.find("RmsNorm") != std::string::npos;
}

bool names_a_norm_or_bias(std::string name) {
  static const std::set<std::string> kParts = {"bias", "layernorm", "rmsnorm", "norm"};
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  std::istringstream parts(name);
  for (std::string part; std::getline(parts, part, '.');)
    if (kParts.contains(part) || part.ends_with("_norm")) return true;
  return false;
}

}  // namespace

std::vector<std::string> decay_parameter_names(nn::Module& model) {
  std::vector<std::string> norms;  // prefixes of the parameters of norm modules
  model.for_each_module([&](const std::string& name, nn::Module& module) {
    if (is_norm_module(module.type_name())) norms.push_back(name.empty() ? "" : name + ".");
  });
  std::vector<std::string> names;
  for (const NamedTensor& parameter : model.named_parameters()) {
    const bool in_norm = std::any_of(norms.begin(), norms.end(), [&](const std::string& prefix) {
      return parameter.name.starts_with(prefix);
    });
    if (!in_norm && !names_a_norm_or_bias(parameter.name)) names.push_back(parameter.name);
  }
  return names;
}

}  // namespace tendril
