#include <tendril/dist/nccl/nccl_engine.h>

#include <cuda_runtime.h>

#include <thread>

#include <tendril/core/ops/copy.h>
#include <tendril/dist/work_state.h>

namespace tendril::dist {
namespace {

void check_cuda(cudaError_t status, const char* what) {
  TENDRIL_CHECK(status == cudaSuccess, "[cuda] ", what, " failed: ", cudaGetErrorString(status));
}

cudaStream_t handle_of(const cuda::Stream& stream) {
  return static_cast<cudaStream_t>(stream.handle());
}

NcclEvent mark(const cuda::Stream& stream) {
  cudaEvent_t made = nullptr;
  check_cuda(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  NcclEvent event(made, [](void* handle) { cudaEventDestroy(static_cast<cudaEvent_t>(handle)); });
  check_cuda(cudaEventRecord(made, handle_of(stream)), "cudaEventRecord");
  return event;
}

void let_wait(const cuda::Stream& stream, const NcclEvent& event) {
  check_cuda(cudaStreamWaitEvent(handle_of(stream), static_cast<cudaEvent_t>(event.get()), 0),
             "cudaStreamWaitEvent");
}

bool is_reached(const NcclEvent& event) {
  const cudaError_t status = cudaEventQuery(static_cast<cudaEvent_t>(event.get()));
  if (status != cudaErrorNotReady) check_cuda(status, "cudaEventQuery");
  return status == cudaSuccess;
}

}  // namespace

// ---------------------------------------------------------------- one operation

class NcclEngine::Pending final : public Work::State {
 public:
  Pending(std::shared_ptr<NcclEngine> engine, NcclOperation operation, cuda::Stream caller,
          NcclEvent done)
      : engine_(std::move(engine)),
        operation_(std::move(operation)),
        caller_(std::move(caller)),
        done_(std::move(done)) {}

  // Memory that the caller's stream takes back must not be in use any more.
  ~Pending() override {
    cudaStreamWaitEvent(handle_of(caller_), static_cast<cudaEvent_t>(done_.get()), 0);
  }

  void wait() override {
    const std::lock_guard lock(mutex_);
    engine_->check(operation_.label);
    const cuda::Stream current = cuda::Stream::current(engine_->device());
    let_wait(current, done_);
    if (current.handle() != caller_.handle()) let_wait(caller_, done_);
    if (operation_.blocks_host || !operation_.results.empty()) wait_on_host();
    for (const auto& [host, device] : operation_.results) ops::copy(host, device);
    operation_.results.clear();
    operation_.tensors.clear();
  }

  bool is_done() override { return engine_->has_failed() || is_reached(done_); }

 private:
  void wait_on_host() {
    while (!is_reached(done_)) {
      engine_->check(operation_.label);
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    engine_->check(operation_.label);  // an abort ends operations as well
  }

  std::mutex mutex_;
  std::shared_ptr<NcclEngine> engine_;
  NcclOperation operation_;
  cuda::Stream caller_;
  NcclEvent done_;
};

Work NcclEngine::run(NcclOperation operation, const std::function<void()>& body) {
  check(operation.label);
  TENDRIL_CHECK(!cuda::is_recording_graph(), "[", operation.label,
                "] cannot be recorded in a cuda::Graph; keep collectives out of it");
  const cuda::Stream caller = cuda::Stream::current(device_);
  let_wait(stream_, mark(caller));
  try {
    const cuda::StreamGuard guard(stream_);
    body();
  } catch (const std::exception& error) {
    check(operation.label);  // another rank's failure is the better reason
    monitor_->report("[" + operation.label + "] " + error.what());
    throw;
  }
  const NcclEvent done = mark(stream_);
  {
    const std::lock_guard lock(mutex_);
    running_.push_back({operation.label, operation.number, operation.ranks, done});
  }
  return Work(std::make_shared<Pending>(shared_from_this(), std::move(operation), caller, done));
}

// ---------------------------------------------------------------- the watch

NcclEngine::NcclEngine(Device device) : device_(device), stream_(device) {}

NcclEngine::~NcclEngine() = default;

void NcclEngine::start_monitor(MonitorOptions options) {
  options.abort = [this](const std::string&) { abort_communicators(); };
  options.poll = [this](Monitor& monitor) { look_after_operations(monitor); };
  monitor_ = dist::start_monitor(std::move(options));
}

void NcclEngine::add(NcclCommunicator& communicator) {
  const std::lock_guard lock(communicators_mutex_);
  communicators_.push_back(&communicator);
}

void NcclEngine::remove(NcclCommunicator& communicator) {
  const std::lock_guard lock(communicators_mutex_);
  std::erase(communicators_, &communicator);
}

size_t NcclEngine::communicator_count() {
  const std::lock_guard lock(communicators_mutex_);
  return communicators_.size();
}

void NcclEngine::check(const std::string& label) const {
  const std::string failure = monitor_->failure();
  TENDRIL_CHECK(failure.empty(), "[", label, "] ", failure);
}

void NcclEngine::abort_communicators() {
  cudaSetDevice(device_.index);
  const std::lock_guard lock(communicators_mutex_);
  for (NcclCommunicator* communicator : communicators_) communicator->abort();
}

// By the monitor's thread.
void NcclEngine::look_after_operations(Monitor& monitor) {
  // Looking at events must not spoil a graph that another thread is recording.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  check_cuda(cudaThreadExchangeStreamCaptureMode(&mode), "cudaThreadExchangeStreamCaptureMode");
  check_cuda(cudaSetDevice(device_.index), "cudaSetDevice");
  {
    const std::lock_guard lock(communicators_mutex_);
    for (NcclCommunicator* communicator : communicators_) communicator->check_health();
  }
  tell_activity(monitor);
}

// The oldest operation that is not done is what this rank is in.
void NcclEngine::tell_activity(Monitor& monitor) {
  const std::lock_guard lock(mutex_);
  while (!running_.empty() && is_reached(running_.front().done)) {
    activity_ = {running_.front().label, running_.front().number, running_.front().ranks, false,
                 Clock::now()};
    running_.pop_front();
  }
  if (!running_.empty()) {
    const Running& oldest = running_.front();
    const bool is_known =
        activity_.is_inside && activity_.label == oldest.label && activity_.ranks == oldest.ranks;
    if (!is_known) activity_ = {oldest.label, oldest.number, oldest.ranks, true, Clock::now()};
  }
  monitor.set_activity(activity_);
}

}  // namespace tendril::dist
