#include <tendril/trainer/sharding/block_classes.h>

#include <algorithm>
#include <map>

namespace tendril::sharding {
namespace {

constexpr const char* kList = "ModuleList";

std::string parent_of(const std::string& name) {
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? "" : name.substr(0, dot);
}

bool lies_below(const std::string& name, const std::string& ancestor) {
  return name.size() > ancestor.size() && name.starts_with(ancestor) &&
         name[ancestor.size()] == '.';
}

}  // namespace

std::vector<std::string> block_classes(nn::Module& model) {
  std::map<std::string, std::string> types;  // by dotted name
  std::vector<std::string> order;            // parents before their children
  model.for_each_module([&](const std::string& name, nn::Module& module) {
    types[name] = module.type_name();
    order.push_back(name);
  });
  std::map<std::pair<std::string, std::string>, int> counts;  // (list, class)
  for (const std::string& name : order)
    if (!name.empty() && types.at(parent_of(name)) == kList)
      ++counts[{parent_of(name), types.at(name)}];

  std::vector<std::string> classes, blocks;  // blocks: names of their modules
  for (const std::string& name : order) {
    const auto count = counts.find({parent_of(name), types.at(name)});
    if (name.empty() || count == counts.end() || count->second < 2) continue;
    if (std::any_of(blocks.begin(), blocks.end(),
                    [&](const std::string& block) { return lies_below(name, block); }))
      continue;
    blocks.push_back(name);
    if (std::find(classes.begin(), classes.end(), types.at(name)) == classes.end())
      classes.push_back(types.at(name));
  }
  return classes;
}

}  // namespace tendril::sharding
