// A task of a Slurm step, as srun tells it.
#pragma once

#include <optional>
#include <string>

#include <tendril/dist/launch/config.h>

namespace tendril::launch {

struct SlurmTask {
  int64_t rank = 0, size = 1;
  int64_t local_rank = 0, local_size = 1;  // on this machine
  int64_t machine_rank = 0, num_machines = 1;
  std::string first_host;  // where rank 0 is; "" when Slurm does not say
  int port = 0;            // the same for all tasks of this step, another one for other steps
};

/// Nothing outside of srun; a batch script, which srun did not start, counts as outside. Error that
/// names the variable when one makes no sense.
std::optional<SlurmTask> slurm_task(const Environment& environment);

/// The first name of a list as Slurm writes it: "gpu[03-05,9],login" -> "gpu03".
std::string first_host(const std::string& list);
/// Tasks on each machine: "4(x2),3" -> 4, 4, 3.
std::vector<int64_t> tasks_per_machine(const std::string& text);

}  // namespace tendril::launch
