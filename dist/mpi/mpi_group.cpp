#include <tendril/dist/mpi/mpi_group.h>

#include <tendril/dist/host/host_group.h>
#include <tendril/dist/host/watched_transport.h>
#include <tendril/dist/mpi/mpi_transport.h>

namespace tendril::dist {

std::shared_ptr<ProcessGroup> mpi_process_group(const InitOptions& options,
                                                size_t max_message_bytes) {
  return HostGroup::create([&] {
    auto runtime = std::make_shared<mpi::Runtime>(options.timeout, max_message_bytes);
    return watch_transport(
        std::make_unique<mpi::MpiTransport>(std::move(runtime), mpi::Runtime::kWorld), options);
  });
}

}  // namespace tendril::dist
