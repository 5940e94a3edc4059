// How the value of an argument is read and shown: one ArgumentType for each C++ type that an
// argument may have. Files, the command line and --help know arguments through it alone.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <tendril/core/json.h>

namespace tendril {

/// Every reader takes `where`, the beginning of its error messages, as in
/// "[arguments] training.yaml, line 3: learning_rate".
struct ArgumentType {
  std::string placeholder;           // stands for the value in --help: TEXT, NUMBER, ...
  std::vector<std::string> choices;  // the only texts there are; empty: any
  bool is_switch = false;            // --name alone means true, and there is --no_name
  bool is_list = false;              // takes several words of a command line

  Json (*to_json)(const void* value) = nullptr;
  void (*read_json)(void* value, const Json& json, const std::string& where) = nullptr;
  /// From one word of a command line or an unquoted word of YAML: the type decides what it means.
  void (*read_text)(void* value, const std::string& text, const std::string& where) = nullptr;
};

/// A value as error messages quote it: its JSON, cut when it is long.
std::string shown(const Json& value);

/// Types that a program's own options may have.
template <class T>
concept ArgumentValue = std::same_as<T, bool> || std::same_as<T, int> || std::same_as<T, int64_t> ||
    std::same_as<T, double> || std::same_as<T, std::string> ||
    std::same_as<T, std::vector<std::string>> || std::same_as<T, std::optional<bool>> ||
    std::same_as<T, std::optional<int>> || std::same_as<T, std::optional<int64_t>> ||
    std::same_as<T, std::optional<double>> || std::same_as<T, std::optional<std::string>> ||
    std::same_as<T, std::optional<std::vector<std::string>>>;

/// Defined for those, for Json and for the choices of trainer/choices.h.
template <class T>
TENDRIL_API const ArgumentType& argument_type();

}  // namespace tendril
