#include <tendril/dist/mpi/mpi_group.h>

#include <tendril/dist/host_group.h>
#include <tendril/dist/mpi/mpi_transport.h>

namespace tendril::dist {

std::shared_ptr<ProcessGroup> mpi_process_group(const InitOptions& options,
                                                size_t max_message_bytes) {
  return HostGroup::create([&] {
    return std::make_unique<mpi::MpiTransport>(
        std::make_shared<mpi::Runtime>(options.timeout, max_message_bytes), mpi::Runtime::kWorld);
  });
}

}  // namespace tendril::dist
