#include <tendril/dist/sharding/wrap_policy.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <tendril/core/name_pattern.h>

namespace tendril::dist {
namespace {

struct NamedModule {
  std::string name;
  nn::Module* module;
};

std::vector<NamedModule> modules_of(nn::Module& model) {
  std::vector<NamedModule> modules;  // parents before their children
  model.for_each_module([&](const std::string& name, nn::Module& module) {
    modules.push_back({name, &module});
  });
  return modules;
}

bool lies_in(const std::string& name, const std::string& ancestor) {
  return ancestor.empty() || name == ancestor ||
         (name.size() > ancestor.size() && name[ancestor.size()] == '.' &&
          name.compare(0, ancestor.size(), ancestor) == 0);
}

// The innermost of `units` (whose first is the root) around a module.
size_t unit_around(const std::string& module, const std::vector<UnitParameters>& units) {
  size_t best = 0;
  for (size_t i = 1; i < units.size(); ++i)
    if (lies_in(module, units[i].name) && units[i].name.size() >= units[best].name.size()) best = i;
  return best;
}

std::vector<NamePattern> patterns_of(const std::vector<std::string>& expressions) {
  std::vector<NamePattern> patterns;
  for (const std::string& expression : expressions)
    patterns.emplace_back("ignored_modules", expression);
  return patterns;
}

// Where a parameter is registered: in every module that has it as its own.
struct Uses {
  std::set<size_t> units;
  bool ignored = false;
};

}  // namespace

WrapPolicy wrap_class(std::vector<std::string> classes) {
  return [classes = std::move(classes)](nn::Module& model) {
    std::vector<std::string> names;
    std::set<std::string> found, known;
    for (const NamedModule& entry : modules_of(model)) {
      const std::string type = entry.module->type_name();
      known.insert(type);
      if (std::find(classes.begin(), classes.end(), type) == classes.end()) continue;
      found.insert(type);
      if (!entry.name.empty()) names.push_back(entry.name);
    }
    std::string listed;
    for (const std::string& type : known) listed += (listed.empty() ? "" : ", ") + type;
    for (const std::string& type : classes)
      TENDRIL_CHECK(found.count(type), "[wrap_class] the model has no module of class \"", type,
                    "\"; it has ", listed);
    return names;
  };
}

WrapPolicy wrap_size(int64_t min_num_params) {
  TENDRIL_CHECK(min_num_params > 0, "[wrap_size] min_num_params must be positive; got ",
                min_num_params);
  return [min_num_params](nn::Module& model) {
    std::vector<std::string> names;
    const std::vector<NamedModule> modules = modules_of(model);
    for (auto entry = modules.rbegin(); entry != modules.rend(); ++entry) {  // children first
      if (entry->name.empty()) continue;
      int64_t rest = entry->module->parameter_count();
      for (const std::string& name : names)
        if (lies_in(name, entry->name))
          for (const NamedModule& below : modules)
            if (below.name == name) rest -= below.module->parameter_count();
      if (rest >= min_num_params) names.push_back(entry->name);
    }
    return names;
  };
}

std::vector<UnitParameters> divide_into_units(nn::Module& model, const WrapPolicy& wrap,
                                              const std::vector<std::string>& ignored) {
  const std::vector<NamedModule> modules = modules_of(model);
  std::vector<UnitParameters> units{{"", {}}};
  const std::vector<std::string> wrapped = wrap ? wrap(model) : std::vector<std::string>{};
  for (const NamedModule& entry : modules)
    if (std::find(wrapped.begin(), wrapped.end(), entry.name) != wrapped.end() &&
        !entry.name.empty())
      units.push_back({entry.name, {}});

  std::vector<std::string> whole;  // modules that stay as they are, with all below them
  for (const NamePattern& pattern : patterns_of(ignored))
    for (const NamedModule& entry : modules)
      if (pattern.matches(entry.name)) whole.push_back(entry.name);
  TENDRIL_CHECK(ignored.empty() || !whole.empty(),
                "[ignored_modules] no module's name matches; names are those of "
                "for_each_module(), such as ",
                modules.back().name);

  const std::vector<NamedTensor> parameters = model.named_parameters();
  std::vector<Uses> uses(parameters.size());
  for (const NamedModule& entry : modules)
    for (const NamedTensor& own : entry.module->named_parameters()) {
      if (own.name.find('.') != std::string::npos) continue;  // a child's
      for (size_t i = 0; i < parameters.size(); ++i) {
        if (!parameters[i].tensor.is_same(own.tensor)) continue;
        uses[i].units.insert(unit_around(entry.name, units));
        uses[i].ignored |= std::any_of(whole.begin(), whole.end(), [&](const std::string& name) {
          return lies_in(entry.name, name);
        });
      }
    }
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (uses[i].ignored) continue;
    const size_t unit = uses[i].units.size() == 1 ? *uses[i].units.begin() : 0;
    units[unit].parameters.push_back(parameters[i]);
  }
  units.erase(std::remove_if(units.begin() + 1, units.end(),
                             [](const UnitParameters& unit) { return unit.parameters.empty(); }),
              units.end());
  return units;
}

}  // namespace tendril::dist
