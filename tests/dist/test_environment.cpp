#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <tendril/core/creation.h>
#include <tendril/core/cuda.h>
#include <tendril/dist/environment.h>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;
using dist::InitOptions;
using dist::LaunchEnvironment;

namespace {

// These variables and no others of any launcher, while it lives.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& variables) {
    for (const char* name : {"RANK",
                             "WORLD_SIZE",
                             "LOCAL_RANK",
                             "LOCAL_WORLD_SIZE",
                             "GROUP_RANK",
                             "MASTER_ADDR",
                             "MASTER_PORT",
                             "TORCHELASTIC_USE_AGENT_STORE",
                             "OMPI_COMM_WORLD_RANK",
                             "OMPI_COMM_WORLD_SIZE",
                             "OMPI_COMM_WORLD_LOCAL_RANK",
                             "OMPI_COMM_WORLD_LOCAL_SIZE",
                             "OMPI_COMM_WORLD_NODE_RANK",
                             "PMI_RANK",
                             "PMI_SIZE",
                             "MPI_LOCALRANKID",
                             "MPI_LOCALNRANKS",
                             "PMIX_RANK",
                             "SLURM_PROCID",
                             "SLURM_NTASKS",
                             "SLURM_LOCALID",
                             "SLURM_NODEID",
                             "SLURM_STEP_ID",
                             "SLURM_STEP_TASKS_PER_NODE"}) {
      const char* value = std::getenv(name);
      before_.emplace_back(name, value ? value : "");
      ::unsetenv(name);
    }
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const auto& [name, value] : before_) {
      if (value.empty())
        ::unsetenv(name.c_str());
      else
        ::setenv(name.c_str(), value.c_str(), 1);
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  std::vector<std::pair<std::string, std::string>> before_;
};

LaunchEnvironment read(const std::map<std::string, std::string>& variables) {
  const Environment environment(variables);
  return LaunchEnvironment::read();
}

std::string problem(const std::map<std::string, std::string>& variables) {
  return message_of([&] { read(variables); });
}

// rank, world size, local rank, local world size, node
std::vector<int> ranks(const LaunchEnvironment& e) {
  return {e.rank, e.world_size, e.local_rank, e.local_world_size, e.node_rank};
}

}  // namespace

TEST_SUITE("environment") {
  TEST_CASE("without a launcher a process is alone") {
    const LaunchEnvironment alone = read({});
    CHECK(ranks(alone) == std::vector<int>{0, 1, 0, 1, 0});
    CHECK_FALSE(alone.has_mpi);
    CHECK(alone.master_addr.empty());
    CHECK(alone.master_port == 0);
  }

  TEST_CASE("torchrun's contract") {
    const LaunchEnvironment whole = read({{"RANK", "13"},
                                          {"WORLD_SIZE", "16"},
                                          {"LOCAL_RANK", "5"},
                                          {"LOCAL_WORLD_SIZE", "8"},
                                          {"GROUP_RANK", "1"},
                                          {"MASTER_ADDR", "node0"},
                                          {"MASTER_PORT", "29500"}});
    CHECK(ranks(whole) == std::vector<int>{13, 16, 5, 8, 1});
    CHECK(whole.master_addr == "node0");
    CHECK(whole.master_port == 29500);
    CHECK_FALSE(whole.has_mpi);
    CHECK(ranks(read({{"RANK", "2"}, {"WORLD_SIZE", "4"}})) == std::vector<int>{2, 4, 2, 4, 0});
    CHECK(ranks(read({{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_WORLD_SIZE", "4"}})) ==
          std::vector<int>{5, 8, 1, 4, 1});
    CHECK(read({{"MASTER_PORT", "29500"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}}).master_port ==
          29501);
  }

  TEST_CASE("Open MPI, MPICH and Slurm") {
    const LaunchEnvironment open = read({{"OMPI_COMM_WORLD_RANK", "3"},
                                         {"OMPI_COMM_WORLD_SIZE", "4"},
                                         {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                                         {"OMPI_COMM_WORLD_NODE_RANK", "1"}});
    CHECK(ranks(open) == std::vector<int>{3, 4, 1, 2, 1});
    CHECK(open.has_mpi);
    const LaunchEnvironment hydra = read({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}});
    CHECK(ranks(hydra) == std::vector<int>{1, 2, 1, 2, 0});
    CHECK(hydra.has_mpi);

    std::map<std::string, std::string> slurm{{"SLURM_PROCID", "6"},
                                             {"SLURM_NTASKS", "7"},
                                             {"SLURM_LOCALID", "0"},
                                             {"SLURM_NODEID", "3"},
                                             {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"}};
    CHECK(read(slurm).world_size == 1);  // in a batch script, not in a step
    slurm["SLURM_STEP_ID"] = "0";
    CHECK(ranks(read(slurm)) == std::vector<int>{6, 7, 0, 1, 3});
    CHECK_FALSE(read(slurm).has_mpi);
    slurm["PMIX_RANK"] = "6";
    CHECK(read(slurm).has_mpi);
    slurm["SLURM_NODEID"] = "4";
    CHECK(contains(problem(slurm), "SLURM_STEP_TASKS_PER_NODE says nothing about node 4"));
  }

  TEST_CASE("RANK counts more than what an outer launcher set") {
    const LaunchEnvironment inner = read({{"RANK", "2"},
                                          {"WORLD_SIZE", "3"},
                                          {"OMPI_COMM_WORLD_RANK", "0"},
                                          {"OMPI_COMM_WORLD_SIZE", "1"}});
    CHECK(ranks(inner) == std::vector<int>{2, 3, 2, 3, 0});
    CHECK_FALSE(inner.has_mpi);
  }

  TEST_CASE("numbers that make no sense name their variable") {
    CHECK(problem({{"RANK", "0"}}) ==
          "[LaunchEnvironment] WORLD_SIZE is not set, although the variables that belong with it "
          "are");
    CHECK(contains(problem({{"WORLD_SIZE", "2"}}), "RANK is not set"));
    CHECK(contains(problem({{"RANK", "two"}, {"WORLD_SIZE", "2"}}),
                   "RANK must be a whole number from 0 to 16777216; got \"two\""));
    CHECK(contains(problem({{"RANK", "-1"}, {"WORLD_SIZE", "2"}}), "RANK must be"));
    CHECK(contains(problem({{"RANK", "1x"}, {"WORLD_SIZE", "2"}}), "got \"1x\""));
    CHECK(contains(problem({{"RANK", "0"}, {"WORLD_SIZE", "99999999999"}}), "WORLD_SIZE must be"));
    CHECK(contains(problem({{"RANK", "0"}, {"WORLD_SIZE", "0"}}), "WORLD_SIZE must be"));
    CHECK(contains(problem({{"RANK", "2"}, {"WORLD_SIZE", "2"}}),
                   "RANK must be below WORLD_SIZE; got 2 and 2"));
    CHECK(contains(problem({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_WORLD_SIZE", "3"}}),
                   "LOCAL_WORLD_SIZE must not be above WORLD_SIZE; got 3 and 2"));
    CHECK(contains(problem({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "2"}}),
                   "LOCAL_RANK must be below the number of ranks of its machine; got 2 of 2"));
    CHECK(contains(problem({{"MASTER_PORT", "70000"}}), "MASTER_PORT must be"));
    CHECK(contains(problem({{"OMPI_COMM_WORLD_RANK", "1"}}), "OMPI_COMM_WORLD_SIZE is not set"));
  }

  TEST_CASE("a process alone needs no engine") {
    const Environment alone({});
    const auto group = dist::init_process_group();
    CHECK(group->size() == 1);
    const Tensor x = full({3}, 2.0);
    group->all_reduce(x).wait();
    CHECK(numbers(x) == std::vector<double>{2.0, 2.0, 2.0});
    const Environment one({{"RANK", "0"}, {"WORLD_SIZE", "1"}});
    CHECK(dist::init_process_group()->size() == 1);
  }

  TEST_CASE("engines that do not exist, or not in this build, are Errors") {
    const Environment alone({});
    CHECK(message_of([] { dist::init_process_group(InitOptions{.backend = "gloo"}); }) ==
          "[init_process_group] unknown backend \"gloo\"; choose mpi or nccl, or leave it empty");
    if (!dist::has_mpi())
      CHECK(contains(message_of([] { dist::init_process_group(InitOptions{.backend = "mpi"}); }),
                     "this build has no MPI"));
    const Environment two({{"RANK", "0"}, {"WORLD_SIZE", "2"}});
    if (!dist::has_nccl())
      CHECK(contains(message_of([] { dist::init_process_group(); }), "this build has no NCCL"));
    else if (!cuda::is_available())
      CHECK(contains(message_of([] { dist::init_process_group(); }), "[nccl] rank 0 finds no GPU"));
  }
}
