// How a process finds its group.
//
// Started by mpirun or srun --mpi: MPI says who it is. Started with RANK, WORLD_SIZE, MASTER_ADDR
// and MASTER_PORT (tendril-launch, torchrun's contract): NCCL over these, on one GPU per process.
// Started without either: alone.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include <tendril/dist/process_group.h>

namespace tendril::dist {

/// What the environment says, with Open MPI's and Slurm's variables understood where RANK and its
/// kin are not set.
struct TENDRIL_API LaunchEnvironment {
  int rank = 0, world_size = 1;
  int local_rank = 0, local_world_size = 1;  // on this machine
  int node_rank = 0;
  std::string master_addr;
  int master_port = 0;
  bool has_mpi = false;  // started by an MPI launcher

  /// Error that names the variable for numbers that make no sense (rank >= world size, ...).
  static LaunchEnvironment read();
};

struct InitOptions {
  /// "mpi", "nccl"; "" for what the environment calls for.
  std::string backend;
  /// A rank that does not take part in an operation within this time makes it fail on the others,
  /// and ends processes that cannot be reached otherwise.
  std::chrono::milliseconds timeout{30 * 60'000};
  /// How long after a rank's death the others may go on.
  std::chrono::milliseconds grace{10'000};
};

/// The group of all processes. Call it once; the process leaves the group when the last pointer
/// goes. Error when the environment asks for an engine that this build lacks.
TENDRIL_API std::shared_ptr<ProcessGroup> init_process_group(const InitOptions& options = {});

/// Engines of this build.
TENDRIL_API bool has_mpi();
TENDRIL_API bool has_nccl();

}  // namespace tendril::dist
