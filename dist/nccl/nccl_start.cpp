#include <tendril/dist/nccl/nccl_group.h>

namespace tendril::dist {
namespace {

constexpr auto kIdKey = "nccl/id";

// Launchers that show each process one GPU alone call it 0 everywhere.
Device device_for(const LaunchEnvironment& environment) {
  const int count = cuda::device_count();
  TENDRIL_CHECK(count > 0, "[nccl] rank ", environment.rank, " finds no GPU, and NCCL needs one ",
                "per process; check the driver and CUDA_VISIBLE_DEVICES");
  if (environment.local_rank < count) return Device::cuda(environment.local_rank);
  TENDRIL_CHECK(count == 1, "[nccl] LOCAL_RANK is ", environment.local_rank, ", but there are ",
                count, " GPUs here; start one process per GPU");
  return Device::cuda(0);
}

StoreAddress address_of(const LaunchEnvironment& environment) {
  if (environment.world_size == 1 && environment.master_addr.empty()) return {"localhost", 0};
  TENDRIL_CHECK(!environment.master_addr.empty() && environment.master_port > 0,
                "[nccl] MASTER_ADDR and MASTER_PORT must name a machine and a free port where rank "
                "0 can be reached");
  return {environment.master_addr, environment.master_port};
}

std::string agree_on_id(NcclEngine& engine, int rank, std::chrono::milliseconds timeout) {
  const std::unique_ptr<Store> store = engine.monitor().connect();
  if (rank == 0) store->set(kIdKey, NcclCommunicator::make_id());
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    if (const auto id = store->get(kIdKey, std::chrono::milliseconds(200))) return id->value;
    engine.check("init_process_group");
    TENDRIL_CHECK(Clock::now() < deadline, "[nccl] rank 0 has not begun within ",
                  seconds_text(timeout));
  }
}

}  // namespace

std::shared_ptr<ProcessGroup> nccl_process_group(const LaunchEnvironment& environment,
                                                 const InitOptions& options,
                                                 const std::shared_ptr<ProcessGroup>& mpi) {
  const int rank = environment.rank, size = environment.world_size;
  const auto engine = std::make_shared<NcclEngine>(device_for(environment));
  MonitorOptions monitor;
  monitor.rank = rank;
  monitor.size = size;
  monitor.timeout = options.timeout;
  monitor.grace = options.grace;
  if (mpi)
    monitor.exchange = [mpi](const std::string& text) { return mpi->broadcast_text(text, 0); };
  else
    monitor.address = address_of(environment);
  engine->start_monitor(std::move(monitor));

  const auto check = [engine = engine.get()] { engine->check("init_process_group"); };
  Monitor& watch = engine->monitor();
  watch.enter("init_process_group");
  const std::string id = agree_on_id(*engine, rank, options.timeout);
  auto communicator = std::make_unique<NcclCommunicator>(id, rank, size, check);
  watch.leave();
  return std::make_shared<NcclGroup>(engine, std::move(communicator), rank, size,
                                     std::vector<int>());
}

}  // namespace tendril::dist
