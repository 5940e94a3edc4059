// tendril-launch: starts a program as several processes, on CPUs through mpirun, on GPUs itself.
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/core/log.h>
#include <tendril/dist/launch/command_line.h>
#include <tendril/dist/launch/config.h>
#include <tendril/dist/launch/estimate.h>
#include <tendril/dist/launch/help.h>
#include <tendril/dist/launch/plan.h>
#include <tendril/dist/launch/read_value.h>
#include <tendril/dist/launch/run_plan.h>
#include <tendril/dist/launch/write_config.h>

extern char** environ;

namespace tendril::launch {
namespace {

Environment current_environment() {
  Environment environment;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    if (const size_t equals = text.find('='); equals != std::string::npos)
      environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

void print(const std::string& text) { std::fputs(text.c_str(), stdout); }

int write_config_command(std::vector<std::string> words, const Environment& environment) {
  std::string output = default_config_path(environment);
  bool force = false;
  std::vector<std::string> flags;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--force") {
      force = true;
    } else if (words[i].starts_with("--output=")) {
      output = words[i].substr(words[i].find('=') + 1);
    } else if (words[i] == "--output") {
      TENDRIL_CHECK(i + 1 < words.size(), "[launch] --output needs a file");
      output = words[++i];
    } else if (words[i] == "--key_table") {  // the tables of docs/launch.md
      print(key_table() + "\n" + foreign_table());
      return 0;
    } else {
      flags.push_back(words[i]);
    }
  }
  // The file says what the flags say; the environment's turn comes when it is used.
  if (read_command_line(flags).wants_help) {
    print(help_text());
    return 0;
  }
  const LaunchConfig config = read_config(flags, {});
  TENDRIL_CHECK(config.command.empty(), "[launch] config starts no program; got ",
                join(config.command, " "));
  TENDRIL_CHECK(force || !std::filesystem::exists(output), "[launch] ", output,
                " exists; --force replaces it");
  const std::filesystem::path folder = std::filesystem::path(output).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder);
  write_text_file(output, config_text(config));
  print(output + "\n");
  return 0;
}

int launch_command(const std::vector<std::string>& words, const Environment& environment) {
  if (read_command_line(words).wants_help) {
    print(help_text());
    return 0;
  }
  const LaunchConfig config = read_config(words, environment);
  if (config.quiet) set_log_level(LogLevel::error);
  const Plan plan = make_plan(config, environment, this_machine(environment));
  if (!config.ignored.empty())
    log_warning("[launch] without a meaning here, and ignored: ", join(config.ignored, ", "));
  for (const std::string& warning : plan.run.warnings) log_warning("[launch] ", warning);
  if (config.dry_run) {
    print(describe(plan));
    return 0;
  }
  return run_plan(plan, config, environment);
}

int run(const std::vector<std::string>& words) {
  const Environment environment = current_environment();
  const std::vector<std::string> rest(words.begin() + (words.empty() ? 0 : 1), words.end());
  if (words.empty()) {
    print(help_text());
    return 2;
  }
  if (words[0] == "config") return write_config_command(rest, environment);
  if (words[0] == "estimate") {
    print(estimate_command(rest));
    return 0;
  }
  return launch_command(words, environment);
}

}  // namespace
}  // namespace tendril::launch

int main(int argc, char** argv) {
  try {
    return tendril::launch::run({argv + 1, argv + argc});
  } catch (const std::exception& mistake) {
    std::fprintf(stderr, "%s\n", mistake.what());
    return 1;
  }
}
