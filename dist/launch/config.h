// What a run should be: the values of all keys (keys.def) with where each came from, strongest
// first: the command line, the environment, the file, the defaults.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tendril::launch {

enum class Source { defaults, file, environment, command_line };

/// Names and values of environment variables.
using Environment = std::map<std::string, std::string>;

struct LaunchConfig {
#define GROUP(section, title)
#define KEY(type, name, default_value, variable, help) type name = default_value;
#define CHOICE(name, default_value, choices, variable, help) std::string name = default_value;
#define NUMBERED(name, default_value, choices, variable, help) std::string name = default_value;
#define IGNORED(name, default_value, why)
#define REFUSED(name, default_value, why)
#define ALIAS(old_name, name)
#include <tendril/dist/launch/keys.def>

  std::map<std::string, Source> sources;  // of the keys that were set
  std::vector<std::string> ignored;       // keys that were set to something and mean nothing here
  std::string file;                       // that was read; "" for none
  std::vector<std::string> command;       // the program and its arguments

  Source source(const std::string& key) const {
    const auto found = sources.find(key);
    return found == sources.end() ? Source::defaults : found->second;
  }
  bool is_set(const std::string& key) const { return sources.contains(key); }
};

/// The configuration that a command line (without the program's own name) means. Error for
/// everything that no run could have meant: unknown names, values that are none, files that cannot
/// be read. What contradicts itself is found by check_config().
LaunchConfig read_config(const std::vector<std::string>& words, const Environment& environment);

/// Where the file is looked for when none is named: $TENDRIL_HOME, else ~/.cache/tendril.
std::string default_config_path(const Environment& environment);

}  // namespace tendril::launch
