// `tendril-launch config`: a file with every key, what it means and its default.
#pragma once

#include <string>

#include <tendril/dist/launch/config.h>

namespace tendril::launch {

/// YAML. Keys that `config` sets are written out, the others as comments with their defaults.
std::string config_text(const LaunchConfig& config);

/// Tables in Markdown, for docs/launch.md: the keys that apply, and those that do not.
std::string key_table();
std::string foreign_table();

}  // namespace tendril::launch
