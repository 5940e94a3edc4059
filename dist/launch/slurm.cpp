#include <tendril/dist/launch/slurm.h>

#include <initializer_list>

#include <tendril/core/error.h>
#include <tendril/dist/launch/read_value.h>

namespace tendril::launch {
namespace {

// The first of these variables that is set.
std::string text_of(const Environment& environment, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const auto found = environment.find(name);
        found != environment.end() && !found->second.empty())
      return found->second;
  return "";
}

int64_t number_of(const Environment& environment, std::initializer_list<const char*> names,
                  int64_t otherwise) {
  const std::string text = text_of(environment, names);
  int64_t value = otherwise;
  if (!text.empty()) read_value(value, text, std::string("[launch] ") + *names.begin());
  return value;
}

// Above what systems reserve, below what they hand out themselves (32768 on Linux).
int port_of(const Environment& environment) {
  const int64_t job = number_of(environment, {"SLURM_JOB_ID", "SLURM_JOBID"}, 0);
  const int64_t step = number_of(environment, {"SLURM_STEP_ID", "SLURM_STEPID"}, 0);
  constexpr int64_t kFirst = 10'000, kCount = 20'000, kStepsApart = 7919;
  return static_cast<int>(kFirst + (job + step * kStepsApart) % kCount);
}

}  // namespace

std::string first_host(const std::string& list) {
  const std::string name = list.substr(0, list.find_first_of(",["));
  if (name.size() == list.size() || list[name.size()] == ',') return name;
  const size_t end = list.find_first_of("-,]", name.size() + 1);
  TENDRIL_CHECK(end != std::string::npos && end > name.size() + 1,
                "[launch] Slurm's list of machines cannot be read; got ", list);
  const size_t close = list.find(']', end);
  TENDRIL_CHECK(close != std::string::npos,
                "[launch] Slurm's list of machines cannot be read; got ", list);
  const std::string rest = list.substr(close + 1);
  return name + list.substr(name.size() + 1, end - name.size() - 1) +
         rest.substr(0, rest.find(','));
}

std::vector<int64_t> tasks_per_machine(const std::string& text) {
  const std::string where = "[launch] SLURM_STEP_TASKS_PER_NODE";
  std::vector<int64_t> counts;
  for (const std::string& part : split(text, ',')) {
    const size_t times = part.find("(x");
    int64_t count = 0, repeat = 1;
    read_value(count, part.substr(0, times), where);
    if (times != std::string::npos) {
      TENDRIL_CHECK(part.back() == ')', where, " cannot be read; got ", text);
      read_value(repeat, part.substr(times + 2, part.size() - times - 3), where);
    }
    constexpr int64_t kMostMachines = 1'000'000;
    TENDRIL_CHECK(count > 0 && repeat > 0 && repeat <= kMostMachines, where,
                  " cannot be read; got ", text);
    counts.insert(counts.end(), static_cast<size_t>(repeat), count);
  }
  return counts;
}

std::optional<SlurmTask> slurm_task(const Environment& environment) {
  if (text_of(environment, {"SLURM_PROCID"}).empty() ||
      text_of(environment, {"SLURM_STEP_ID", "SLURM_STEPID"}).empty())
    return std::nullopt;
  SlurmTask task;
  task.rank = number_of(environment, {"SLURM_PROCID"}, 0);
  task.size = number_of(environment, {"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}, 1);
  task.local_rank = number_of(environment, {"SLURM_LOCALID"}, 0);
  task.machine_rank = number_of(environment, {"SLURM_NODEID"}, 0);
  task.num_machines = number_of(environment, {"SLURM_STEP_NUM_NODES", "SLURM_NNODES"}, 1);
  const std::string counts =
      text_of(environment, {"SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"});
  task.local_size = task.size;
  if (!counts.empty()) {
    const std::vector<int64_t> tasks = tasks_per_machine(counts);
    const auto machine = static_cast<size_t>(task.machine_rank);
    TENDRIL_CHECK(machine < tasks.size(), "[launch] SLURM_NODEID is ", task.machine_rank,
                  ", but SLURM_STEP_TASKS_PER_NODE lists ", tasks.size(), " machines");
    task.local_size = tasks[machine];
  }
  TENDRIL_CHECK(task.rank >= 0 && task.rank < task.size, "[launch] SLURM_PROCID must be below ",
                "SLURM_STEP_NUM_TASKS; got ", task.rank, " of ", task.size);
  TENDRIL_CHECK(task.local_rank >= 0 && task.local_rank < task.local_size,
                "[launch] SLURM_LOCALID must be below the tasks of its machine; got ",
                task.local_rank, " of ", task.local_size);
  const std::string hosts =
      text_of(environment, {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"});
  task.first_host = first_host(hosts);
  task.port = port_of(environment);
  return task;
}

}  // namespace tendril::launch
