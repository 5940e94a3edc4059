// Private to dist: the group of all processes that mpirun or srun started. Sources below dist/mpi
// are compiled only where MPI is.
#pragma once

#include <memory>

#include <tendril/dist/environment.h>
#include <tendril/dist/process_group.h>

namespace tendril::dist {

/// Starts MPI, unless the application has, and ends it when the group and all that split() made of
/// it are gone; only the group's own thread calls it. `max_message_bytes`: what is longer travels
/// in several messages, since MPI counts in int.
///
/// After a fault MPI is left as it is: mpirun ends the other processes when one leaves like that,
/// or with another exit status than 0.
TENDRIL_API std::shared_ptr<ProcessGroup> mpi_process_group(const InitOptions& options,
                                                            size_t max_message_bytes = 1u << 30);

}  // namespace tendril::dist
