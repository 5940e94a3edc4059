#include <tendril/dist/launch/plan.h>

#include <algorithm>
#include <filesystem>

#include <tendril/core/error.h>
#include <tendril/dist/launch/read_value.h>
#include <tendril/dist/launch/worker_environment.h>

namespace tendril::launch {
namespace {

// A name from PATH, or else a file of this folder, as scripts are usually named.
std::string program_path(const std::string& name, const Environment& environment) {
  for (const std::string& candidate : {name, "./" + name})
    if (const std::string path = find_program(candidate, environment); !path.empty()) return path;
  std::error_code problem;
  if (std::filesystem::is_regular_file(name, problem))
    fail("[launch] ", name,
         " cannot be executed; programs and scripts are started directly: make "
         "it executable, and begin a script with #! and its interpreter");
  fail("[launch] there is no program ", name, "; give its path, or a name that PATH has");
}

std::vector<std::string> mpirun_command(const LaunchConfig& config, const Run& run,
                                        const Machine& machine, const Environment& environment,
                                        const Environment& variables) {
  std::vector<std::string> words = {machine.mpirun, "-n", std::to_string(run.num_processes)};
  const auto add = [&](std::initializer_list<std::string> more) {
    words.insert(words.end(), more.begin(), more.end());
  };
  if (machine.is_root) add({"--allow-run-as-root"});
  if (const std::vector<std::string> hosts = split(config.hosts, ','); !hosts.empty()) {
    const std::string slots = ":" + std::to_string(run.local_processes);
    add({"--host", join(hosts, slots + ",") + slots});
  } else if (!config.mpirun_hostfile.empty()) {
    add({"--hostfile", config.mpirun_hostfile});
  } else if (run.num_machines == 1 && run.num_processes > machine.cores) {
    add({"--oversubscribe"});
  }
  // Otherwise Open MPI ties each rank of two to one core, and all its threads with it.
  add({"--bind-to", config.enable_cpu_affinity ? "numa" : "none"});
  if (config.tee != "0") add({"--tag-output"});
  if (!config.log_dir.empty()) add({"--output-filename", config.log_dir});
  for (const auto& [name, value] : variables) add({"-x", name});
  for (const auto& [name, value] : environment)
    if ((name.starts_with("TENDRIL_") || name == "GOMP_SPINCOUNT" ||
         (run.num_machines > 1 && (name == "PATH" || name == "LD_LIBRARY_PATH"))) &&
        !variables.contains(name))
      add({"-x", name});
  return words;
}

// 'a word' for a shell, bare where it needs no quotes.
std::string quoted(const std::string& word) {
  const auto is_plain = [](unsigned char c) {
    return std::isalnum(c) ||
           std::string_view("-_./=:,+@%").find(static_cast<char>(c)) != std::string_view::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), is_plain)) return word;
  std::string result = "'";
  for (char c : word) result += c == '\'' ? "'\\''" : std::string(1, c);
  return result + "'";
}

}  // namespace

Plan make_plan(const LaunchConfig& config, const Environment& environment, const Machine& machine) {
  TENDRIL_CHECK(!config.command.empty(),
                "[launch] no program is named; write tendril-launch [flags] program [arguments]");
  std::vector<std::string> command = config.command;
  command[0] = program_path(command[0], environment);
  Plan plan{settle(config, environment, machine), {}};
  const Environment shared = shared_variables(config, plan.run);
  if (plan.run.starter == Starter::mpirun) {
    std::vector<std::string> words = mpirun_command(config, plan.run, machine, environment, shared);
    words.insert(words.end(), command.begin(), command.end());
    plan.processes.push_back({"mpirun", std::move(words), shared});
    return plan;
  }
  const bool is_rank = plan.run.starter == Starter::environment;
  const int64_t children = is_rank ? 1 : plan.run.local_processes;
  for (int64_t i = 0; i < children; ++i) {
    Environment variables = shared;
    variables.merge(rank_variables(plan.run, i));
    plan.processes.push_back(
        {"rank " + std::to_string(plan.run.first_rank + i), command, std::move(variables)});
  }
  return plan;
}

std::string describe(const Plan& plan) {
  std::string text;
  for (const PlannedProcess& process : plan.processes) {
    text += "# " + process.label + "\n";
    for (const auto& [name, value] : process.variables) text += name + "=" + quoted(value) + "\n";
    std::vector<std::string> words;
    for (const std::string& word : process.command) words.push_back(quoted(word));
    text += "exec " + join(words, " ") + "\n";
  }
  return text;
}

}  // namespace tendril::launch
