#include <tendril/dist/environment.h>

#include <cstdlib>
#include <string_view>

#ifdef TENDRIL_WITH_MPI
#include <tendril/dist/mpi/mpi_group.h>
#endif
#ifdef TENDRIL_WITH_NCCL
#include <tendril/dist/nccl/nccl_group.h>
#endif

namespace tendril::dist {
namespace {

constexpr auto kTag = "[init_process_group] ";

std::shared_ptr<ProcessGroup> start_mpi([[maybe_unused]] const InitOptions& options) {
#ifdef TENDRIL_WITH_MPI
  return mpi_process_group(options);
#else
  fail(kTag, "this build has no MPI; build with TENDRIL_MPI=ON (Debian: libopenmpi-dev), or start ",
       "one process only");
#endif
}

std::shared_ptr<ProcessGroup> start_nccl([[maybe_unused]] const LaunchEnvironment& environment,
                                         [[maybe_unused]] const InitOptions& options) {
#ifdef TENDRIL_WITH_NCCL
  std::shared_ptr<ProcessGroup> mpi;
  if (environment.has_mpi) mpi = start_mpi(options);
  return nccl_process_group(environment, options, mpi);
#else
  fail(kTag,
       "this build has no NCCL, which is what the processes of RANK and WORLD_SIZE use; build ",
       "with TENDRIL_NCCL=ON and TENDRIL_CUDA=ON, or start them with mpirun");
#endif
}

}  // namespace

bool has_mpi() {
#ifdef TENDRIL_WITH_MPI
  return true;
#else
  return false;
#endif
}

bool has_nccl() {
#ifdef TENDRIL_WITH_NCCL
  return true;
#else
  return false;
#endif
}

namespace {

std::shared_ptr<ProcessGroup> start_group(const InitOptions& options) {
  const LaunchEnvironment environment = LaunchEnvironment::read();
  if (options.backend == "mpi") return start_mpi(options);
  if (options.backend == "nccl") return start_nccl(environment, options);
  TENDRIL_CHECK(options.backend.empty(), kTag, "unknown backend \"", options.backend,
                "\"; choose mpi or nccl, or leave it empty");
  if (environment.world_size == 1) return single_process_group();
  return environment.has_mpi ? start_mpi(options) : start_nccl(environment, options);
}

bool wants_debug() {
  const char* text = std::getenv("ACCELERATE_DEBUG_MODE");
  return text && (std::string_view(text) == "true" || std::string_view(text) == "1");
}

}  // namespace

std::shared_ptr<ProcessGroup> init_process_group(const InitOptions& options) {
  const std::shared_ptr<ProcessGroup> group = start_group(options);
  group->set_debug(wants_debug());
  return group;
}

}  // namespace tendril::dist
