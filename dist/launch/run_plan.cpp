#include <tendril/dist/launch/run_plan.h>

#include <tendril/core/error.h>
#include <tendril/core/log.h>
#include <tendril/dist/launch/read_value.h>
#include <tendril/dist/launch/start_child.h>
#include <tendril/dist/launch/supervise.h>
#include <tendril/dist/launch/worker_environment.h>

namespace tendril::launch {
namespace {

MarkLine prefix_with(std::string prefix) {
  return [prefix = std::move(prefix)](const std::string& line) { return prefix + line; };
}

MarkLine retag(bool keep_mark) {
  return [keep_mark](const std::string& line) { return retagged(line, keep_mark); };
}

std::vector<ChildSpec> children_of(const Plan& plan, const LaunchConfig& config,
                                   const Environment& environment) {
  std::vector<ChildSpec> children;
  for (const PlannedProcess& process : plan.processes) {
    ChildSpec child{.label = process.label,
                    .command = process.command,
                    .environment = merged(environment, process.variables),
                    .mark_stdout = {},
                    .mark_stderr = {},
                    .log_folder = {}};
    const auto local_rank = static_cast<int64_t>(children.size());
    const int tee = tee_of(config.tee, local_rank);
    if (plan.run.starter == Starter::mpirun) {
      child.manages_children = true;
      if (config.tee != "0") {
        child.mark_stdout = retag((tee & 1) != 0);
        child.mark_stderr = retag((tee & 2) != 0);
      }
    } else {
      const std::string rank = std::to_string(plan.run.first_rank + local_rank);
      if (tee & 1) child.mark_stdout = prefix_with("[" + rank + "] ");
      if (tee & 2) child.mark_stderr = prefix_with("[" + rank + "] ");
      if (!config.log_dir.empty()) child.log_folder = config.log_dir + "/1/rank." + rank;
    }
    children.push_back(std::move(child));
  }
  return children;
}

}  // namespace

int tee_of(const std::string& tee, int64_t local_rank) {
  const auto read = [&](const std::string& text) {
    int64_t value = 0;
    read_value(value, text, "[launch] --tee");
    TENDRIL_CHECK(value >= 0 && value <= 3, "[launch] --tee must be 0, 1, 2 or 3; got ", tee);
    return static_cast<int>(value);
  };
  if (tee.find(':') == std::string::npos) return read(tee);
  int result = 0;
  for (const std::string& part : split(tee, ',')) {
    const size_t colon = part.find(':');
    TENDRIL_CHECK(colon != std::string::npos,
                  "[launch] --tee is one number, or local_rank:number for each; got ", tee);
    int64_t rank = 0;
    read_value(rank, part.substr(0, colon), "[launch] --tee");
    const int value = read(part.substr(colon + 1));
    if (rank == local_rank) result = value;
  }
  return result;
}

int run_plan(const Plan& plan, const LaunchConfig& config, const Environment& environment) {
  if (plan.run.starter == Starter::environment) {
    const PlannedProcess& self = plan.processes.at(0);
    become(self.command, merged(environment, self.variables));
  }
  TENDRIL_CHECK(plan.run.starter != Starter::mpirun || config.tee.find(':') == std::string::npos,
                "[launch] with mpirun --tee is the same for all ranks; got ", config.tee);
  const std::vector<ChildSpec> children = children_of(plan, config, environment);
  constexpr double kMilli = 1000.0;
  const std::chrono::milliseconds timeout(static_cast<int64_t>(config.shutdown_timeout * kMilli));
  for (int64_t restarts = 0;; ++restarts) {
    const SuperviseResult result = supervise(children, timeout);
    if (result.exit_code == 0 || result.was_asked_to_end || restarts >= config.max_restarts)
      return result.exit_code;
    log_warning("[launch] starting all processes again, ", restarts + 1, " of ",
                config.max_restarts);
  }
}

}  // namespace tendril::launch
