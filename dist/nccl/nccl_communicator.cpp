#include <tendril/dist/nccl/nccl_communicator.h>

#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include <tendril/core/error.h>

namespace tendril::dist {
namespace {

ncclConfig_t non_blocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

}  // namespace

void check_nccl(int result, const char* what) {
  const auto status = static_cast<ncclResult_t>(result);
  if (status == ncclSuccess || status == ncclInProgress) return;
  fail("[nccl] ", what, " failed: ", ncclGetErrorString(status), "; ", ncclGetLastError(nullptr));
}

std::string NcclCommunicator::make_id() {
  ncclUniqueId id;
  check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
  return {id.internal, sizeof(id.internal)};
}

NcclCommunicator::NcclCommunicator(const std::string& id, int rank, int size,
                                   std::function<void()> check)
    : check_(std::move(check)) {
  ncclUniqueId name;
  TENDRIL_CHECK(id.size() == sizeof(name.internal), "[nccl] a communicator's id has ",
                sizeof(name.internal), " bytes; got ", id.size());
  std::copy(id.begin(), id.end(), name.internal);
  ncclConfig_t config = non_blocking();
  check_nccl(ncclCommInitRankConfig(&comm_, size, name, rank, &config), "ncclCommInitRankConfig");
  try {
    settle("ncclCommInitRankConfig");
  } catch (...) {
    abort();  // a destructor does not run for what was never made
    throw;
  }
}

NcclCommunicator::~NcclCommunicator() { abort(); }  // unless it was closed

void NcclCommunicator::close() noexcept {
  try {
    {
      const std::lock_guard lock(mutex_);
      check_nccl(ncclCommFinalize(alive()), "ncclCommFinalize");
    }
    settle("ncclCommFinalize");
    const std::lock_guard lock(mutex_);
    check_nccl(ncclCommDestroy(alive()), "ncclCommDestroy");
    comm_ = nullptr;
  } catch (const std::exception&) {  // the job has failed, of which others are told elsewhere
    abort();
  }
}

ncclComm* NcclCommunicator::alive() const {
  TENDRIL_CHECK(comm_ != nullptr, "[nccl] the communicator was aborted");
  return comm_;
}

// Waits for what NCCL does in the background.
void NcclCommunicator::settle(const char* what) {
  for (int looks = 0;; ++looks) {
    ncclResult_t state = ncclSuccess;
    {
      const std::lock_guard lock(mutex_);
      check_nccl(ncclCommGetAsyncError(alive(), &state), "ncclCommGetAsyncError");
    }
    check_nccl(state, what);
    if (state == ncclSuccess) return;
    check_();
    if (looks < 1000)  // usually it is there at once
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

void NcclCommunicator::group(const std::function<void(ncclComm* comm)>& calls) {
  {
    const std::lock_guard lock(mutex_);
    ncclComm* comm = alive();
    check_nccl(ncclGroupStart(), "ncclGroupStart");
    try {
      calls(comm);
    } catch (...) {
      ncclGroupEnd();  // also a failed group must end
      throw;
    }
    check_nccl(ncclGroupEnd(), "ncclGroupEnd");
  }
  settle("ncclGroupEnd");
}

std::unique_ptr<NcclCommunicator> NcclCommunicator::split(int color, int key) {
  std::unique_ptr<NcclCommunicator> part(new NcclCommunicator(check_));
  ncclConfig_t config = non_blocking();
  try {
    {
      const std::lock_guard lock(mutex_);
      check_nccl(ncclCommSplit(alive(), color, key, &part->comm_, &config), "ncclCommSplit");
    }
    settle("ncclCommSplit");
    part->settle("ncclCommSplit");
  } catch (...) {
    // NCCL may still write its result where it was told to. The process is about to end: keep it.
    static_cast<void>(part.release());
    throw;
  }
  return part;
}

void NcclCommunicator::check_health() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || !comm_) return;  // whoever holds it looks as well
  ncclResult_t state = ncclSuccess;
  check_nccl(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError");
  check_nccl(state, "an operation");
}

void NcclCommunicator::abort() noexcept {
  const std::unique_lock lock(mutex_, std::chrono::seconds(2));
  if (!lock.owns_lock() || !comm_) return;
  ncclCommAbort(comm_);
  comm_ = nullptr;
}

}  // namespace tendril::dist
