#include <tendril/dist/launch/config.h>

#include <filesystem>

#include <tendril/core/error.h>
#include <tendril/dist/launch/command_line.h>
#include <tendril/dist/launch/config_file.h>
#include <tendril/dist/launch/keys.h>

namespace tendril::launch {
namespace {

std::string variable(const Environment& environment, const std::string& name) {
  const auto found = environment.find(name);
  return found == environment.end() ? "" : found->second;
}

void apply_environment(LaunchConfig& config, const Environment& environment) {
  for (const Key& key : keys())
    if (const std::string text = variable(environment, key.variable); !text.empty())
      set_key(config, key, text, Source::environment, "[launch] " + key.variable + ": ");
}

void apply_flags(LaunchConfig& config, const CommandLine& line) {
  for (const auto& [name, text] : line.flags)
    set_key(config, *find_key(name), text, Source::command_line, "[launch] --");
  config.command = line.command;
}

// The file that was asked for, else the default one where it exists; "" for none.
std::string find_file(const LaunchConfig& config, const Environment& environment) {
  if (!config.config_file.empty()) return config.config_file;
  if (config.cpu) return "";
  const std::string path = default_config_path(environment);
  return std::filesystem::exists(path) ? path : "";
}

}  // namespace

std::string default_config_path(const Environment& environment) {
  std::string home = variable(environment, "TENDRIL_HOME");
  if (home.empty()) home = variable(environment, "HOME") + "/.cache/tendril";
  return home + "/default_config.yaml";
}

LaunchConfig read_config(const std::vector<std::string>& words, const Environment& environment) {
  const CommandLine line = read_command_line(words);
  // Which file to read is for the stronger sources to say.
  LaunchConfig strong;
  apply_environment(strong, environment);
  apply_flags(strong, line);

  LaunchConfig config;
  config.file = find_file(strong, environment);
  if (!config.file.empty()) apply_document(config, read_document(config.file), config.file);
  apply_environment(config, environment);
  apply_flags(config, line);
  return config;
}

}  // namespace tendril::launch
