#include <tendril/dist/environment.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace tendril::dist {
namespace {

constexpr auto kWhere = "[LaunchEnvironment] ";

std::string text_of(const char* variable) {
  const char* text = std::getenv(variable);
  return text ? text : "";
}

bool is_set(const char* variable) { return !text_of(variable).empty(); }

int to_number(const char* variable, std::string_view text, int least, int most) {
  int number = 0;
  const auto end = text.data() + text.size();
  const auto [stop, status] = std::from_chars(text.data(), end, number);
  TENDRIL_CHECK(status == std::errc() && stop == end && number >= least && number <= most, kWhere,
                variable, " must be a whole number from ", least, " to ", most, "; got \"",
                std::string(text), "\"");
  return number;
}

constexpr int kMostRanks = 1 << 24;

int number_of(const char* variable, int least, int most = kMostRanks) {
  TENDRIL_CHECK(is_set(variable), kWhere, variable, " is not set, although the variables that ",
                "belong with it are");
  return to_number(variable, text_of(variable), least, most);
}

int number_or(const char* variable, int otherwise, int least) {
  return is_set(variable) ? number_of(variable, least) : otherwise;
}

// The variables of one launcher. A null name: it has none.
struct Launcher {
  const char *rank, *size, *local_rank, *local_size, *node;
  bool is_mpi;
};

constexpr Launcher kTorchrun{"RANK",       "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE",
                             "GROUP_RANK", false};
// Open MPI's NODE_RANK counts the processes of a node, not the nodes.
constexpr Launcher kOpenMpi{"OMPI_COMM_WORLD_RANK",
                            "OMPI_COMM_WORLD_SIZE",
                            "OMPI_COMM_WORLD_LOCAL_RANK",
                            "OMPI_COMM_WORLD_LOCAL_SIZE",
                            nullptr,
                            true};
// MPICH and Intel MPI.
constexpr Launcher kHydra{"PMI_RANK",        "PMI_SIZE", "MPI_LOCALRANKID",
                          "MPI_LOCALNRANKS", nullptr,    true};
constexpr Launcher kSlurm{"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID",
                          nullptr,        "SLURM_NODEID", false};

// A batch script has Slurm's variables as well, but is no task: only srun starts a step.
bool is_slurm_task() { return is_set("SLURM_PROCID") && is_set("SLURM_STEP_ID"); }

bool is_started_by_mpi() {
  return is_set(kOpenMpi.rank) || is_set(kHydra.rank) || (is_slurm_task() && is_set("PMIX_RANK"));
}

// Tasks on a node, of "2(x3),1": two on each of the first three nodes, one on the fourth.
int tasks_on_node(const char* variable, int node) {
  const std::string text = text_of(variable);
  std::string_view left = text;
  int first = 0;  // node of the entry
  while (!left.empty()) {
    const std::string_view entry = left.substr(0, left.find(','));
    left.remove_prefix(std::min(left.size(), entry.size() + 1));
    const size_t bracket = entry.find("(x");
    const int tasks = to_number(variable, entry.substr(0, bracket), 1, kMostRanks);
    int nodes = 1;
    if (bracket != std::string_view::npos) {
      const std::string_view count = entry.substr(bracket + 2);
      nodes = to_number(variable, count.substr(0, count.find(')')), 1, kMostRanks);
    }
    if (node - first < nodes) return tasks;
    first += nodes;
  }
  fail(kWhere, variable, " says nothing about node ", node, "; got \"", text, "\"");
}

void read_ranks(LaunchEnvironment& environment, const Launcher& launcher) {
  environment.world_size = number_of(launcher.size, 1);
  environment.rank = number_of(launcher.rank, 0);
  TENDRIL_CHECK(environment.rank < environment.world_size, kWhere, launcher.rank, " must be below ",
                launcher.size, "; got ", environment.rank, " and ", environment.world_size);
  int local_size = environment.world_size;
  if (launcher.local_size && is_set(launcher.local_size))
    local_size = number_of(launcher.local_size, 1);
  else if (launcher.rank == kSlurm.rank && is_set("SLURM_STEP_TASKS_PER_NODE"))
    local_size = tasks_on_node("SLURM_STEP_TASKS_PER_NODE", number_or("SLURM_NODEID", 0, 0));
  TENDRIL_CHECK(local_size <= environment.world_size, kWhere,
                launcher.local_size ? launcher.local_size : "SLURM_STEP_TASKS_PER_NODE",
                " must not be above ", launcher.size, "; got ", local_size, " and ",
                environment.world_size);
  environment.local_world_size = local_size;
  environment.local_rank = number_or(launcher.local_rank, environment.rank % local_size, 0);
  TENDRIL_CHECK(environment.local_rank < local_size, kWhere, launcher.local_rank,
                " must be below the number of ranks of its machine; got ", environment.local_rank,
                " of ", local_size);
  const int node = environment.rank / local_size;
  environment.node_rank = launcher.node ? number_or(launcher.node, node, 0) : node;
}

void read_master(LaunchEnvironment& environment) {
  environment.master_addr = text_of("MASTER_ADDR");
  if (!is_set("MASTER_PORT")) return;
  environment.master_port = number_of("MASTER_PORT", 1, 65'535);
  // torchrun keeps a store of its own at this port.
  if (text_of("TORCHELASTIC_USE_AGENT_STORE") == "True")
    environment.master_port += environment.master_port < 65'535 ? 1 : -1;
}

}  // namespace

LaunchEnvironment LaunchEnvironment::read() {
  LaunchEnvironment environment;
  const bool is_told = is_set(kTorchrun.rank) || is_set(kTorchrun.size);
  if (is_told)
    read_ranks(environment, kTorchrun);
  else if (is_set(kOpenMpi.rank))
    read_ranks(environment, kOpenMpi);
  else if (is_set(kHydra.rank))
    read_ranks(environment, kHydra);
  else if (is_slurm_task())
    read_ranks(environment, kSlurm);
  // With RANK set, a launcher stands between us and MPI.
  environment.has_mpi = !is_told && is_started_by_mpi();
  read_master(environment);
  return environment;
}

}  // namespace tendril::dist
