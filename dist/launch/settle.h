// What a configuration comes to on this machine: how many processes, where, started how.
#pragma once

#include <string>
#include <vector>

#include <tendril/dist/launch/config.h>
#include <tendril/dist/launch/machine.h>

namespace tendril::launch {

enum class Paradigm { data_parallel, fsdp, deepspeed };
enum class Starter {
  mpirun,      // one mpirun that starts all ranks on all machines
  processes,   // a child per rank of this machine
  environment  // nothing: this process is a rank, which srun or mpirun started
};

struct Run {
  Paradigm paradigm = Paradigm::data_parallel;
  Starter starter = Starter::processes;
  bool on_cpu = false;
  int64_t num_processes = 1, num_machines = 1, machine_rank = 0;
  int64_t local_processes = 1;  // on this machine
  int64_t first_rank = 0;       // of this machine's
  int64_t first_local_rank = 0;
  std::string master_addr;  // "" when MPI connects the ranks, or when there is one on a CPU
  int master_port = 0;
  bool zero3_init = false;
  int64_t threads = 1;                // of each process
  std::vector<std::string> warnings;  // for the user to read
};

/// Error that says what contradicts what, and what would be right.
Run settle(const LaunchConfig& config, const Environment& environment, const Machine& machine);

}  // namespace tendril::launch
