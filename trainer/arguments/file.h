// Files of arguments, JSON or YAML, read into settings: names with values that no type has looked
// at yet.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tendril/core/json.h>

namespace tendril {

struct ArgumentSetting {
  std::string name;
  std::string where;  // beginning of error messages: "[arguments] training.yaml, line 3: "
  Json value;
  /// An unquoted word of YAML, instead of `value`: what it means depends on the argument. The same
  /// `no` is a boolean for bf16 and a name for eval_strategy.
  std::optional<std::string> text;
};

/// Whether the name ends in .json, .yaml or .yml.
bool is_argument_file(const std::string& path);

/// Error when the file cannot be read, is no object, names something twice or is not of these
/// kinds.
std::vector<ArgumentSetting> read_argument_file(const std::string& path);

/// The members of an object.
std::vector<ArgumentSetting> settings_from_json(const Json& object, const std::string& origin);

/// From YAML text; an Error that says so in a build without yaml-cpp.
std::vector<ArgumentSetting> settings_from_yaml(const std::string& text, const std::string& origin);

}  // namespace tendril
