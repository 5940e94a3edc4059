#include <tendril/core/cuda/runtime.cuh>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include <tendril/core/cuda/memory.h>
#include <tendril/core/ops/copy.h>

namespace tendril::cuda {
namespace {

thread_local std::array<cudaStream_t, kMostDevices> current_stream{};  // null: the device's own
std::atomic<int64_t> waits = 0;
std::atomic<int64_t> bytes_read = 0;

// One device, started at its first use and never torn down: tensors with static storage duration
// may outlive any destructor here.
struct DeviceState {
  std::once_flag once;
  std::atomic<bool> started = false;
  Properties properties;
  cudaStream_t stream = nullptr;
  IndexFault* fault = nullptr;  // on the device
  std::mutex copies_mutex;
  std::vector<IndexFault*> copies;  // page-locked, for reading it; those that no thread uses
};

DeviceState& raw_state(int index) {
  static auto* states = new std::array<DeviceState, kMostDevices>;
  return (*states)[static_cast<size_t>(index)];
}

// The runtime is asked each time: the program may have set another device since.
void make_current(int index) {
  int current = -1;
  if (cudaGetDevice(&current) == cudaSuccess && current == index) return;
  check(cudaSetDevice(index), "cudaSetDevice");
}

void start(DeviceState& state, int index) {
  make_current(index);
  cudaDeviceProp p{};
  TENDRIL_CUDA_CHECK(cudaGetDeviceProperties(&p, index));
  state.properties = {p.name,
                      p.major,
                      p.minor,
                      p.multiProcessorCount,
                      static_cast<int64_t>(p.totalGlobalMem),
                      static_cast<int64_t>(p.sharedMemPerBlockOptin),
                      p.l2CacheSize};
  TENDRIL_CUDA_CHECK(cudaStreamCreateWithFlags(&state.stream, cudaStreamNonBlocking));
  TENDRIL_CUDA_CHECK(cudaMalloc(&state.fault, sizeof(IndexFault)));
  TENDRIL_CUDA_CHECK(cudaMemset(state.fault, 0, sizeof(IndexFault)));
  state.started.store(true, std::memory_order_release);
}

DeviceState& state_of(Device device) {
  TENDRIL_CHECK(device.is_cuda(), "[cuda] needs a CUDA device; got ", device);
  const int count = device_count();
  TENDRIL_CHECK(device.index >= 0 && device.index < count && count <= kMostDevices,
                "[cuda] there is no ", device, " here: ", count,
                " GPUs can be used; check the driver and CUDA_VISIBLE_DEVICES");
  DeviceState& state = raw_state(device.index);
  std::call_once(state.once, [&] { start(state, device.index); });
  return state;
}

// Page-locked memory for a fault while in scope: threads wait for a device at the same time.
class FaultCopy {
 public:
  explicit FaultCopy(DeviceState& state) : state_(state) {
    const std::lock_guard lock(state_.copies_mutex);
    if (state_.copies.empty()) {
      TENDRIL_CUDA_CHECK(cudaMallocHost(&copy_, sizeof(IndexFault)));
      state_.copies.reserve(state_.copies.capacity() + 1);  // the destructor must not throw
    } else {
      copy_ = state_.copies.back();
      state_.copies.pop_back();
    }
  }
  ~FaultCopy() {
    const std::lock_guard lock(state_.copies_mutex);
    state_.copies.push_back(copy_);
  }
  FaultCopy(const FaultCopy&) = delete;
  FaultCopy& operator=(const FaultCopy&) = delete;
  IndexFault* get() const { return copy_; }

 private:
  DeviceState& state_;
  IndexFault* copy_ = nullptr;
};

// Waits for the stream; throws what a kernel has reported.
void wait(DeviceState& state, cudaStream_t on) {
  count_wait();
  const FaultCopy copy(state);
  TENDRIL_CUDA_CHECK(
      cudaMemcpyAsync(copy.get(), state.fault, sizeof(IndexFault), cudaMemcpyDeviceToHost, on));
  TENDRIL_CUDA_CHECK(cudaStreamSynchronize(on));
  const IndexFault fault = *copy.get();
  if (fault.set == 0) return;
  TENDRIL_CUDA_CHECK(cudaMemsetAsync(state.fault, 0, sizeof(IndexFault), on));
  TENDRIL_CUDA_CHECK(cudaStreamSynchronize(on));
  if (fault.rule) fail("[", fault.op, "] ", fault.rule, "; got ", fault.value);
  fail("[", fault.op, "] index out of range; got ", fault.index, " for an axis of size ",
       fault.size, "; indices must be in [0, ", fault.size, ")");
}

std::shared_ptr<void> borrowed(cudaStream_t stream) {
  return {stream, [](void*) {}};
}

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();  // a launch error must not be reported twice
  fail("[cuda] ", what, " failed: ", cudaGetErrorString(status), " (", cudaGetErrorName(status),
       ")");
}

int device_count() {
  static const int count = [] {
    int n = 0;
    return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
  }();
  return count;
}

const Properties& properties(Device device) { return state_of(device).properties; }

int64_t free_bytes(Device device) {
  state_of(device);
  make_current(device.index);
  size_t free = 0, total = 0;
  TENDRIL_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return static_cast<int64_t>(free);
}

cudaStream_t stream(Device device) {
  DeviceState& state = state_of(device);
  make_current(device.index);
  const cudaStream_t chosen = current_stream[static_cast<size_t>(device.index)];
  return chosen ? chosen : state.stream;
}

IndexFault* index_fault(Device device) { return state_of(device).fault; }

void synchronize(Device device) {
  DeviceState& state = state_of(device);
  make_current(device.index);
  TENDRIL_CUDA_CHECK(cudaDeviceSynchronize());
  wait(state, state.stream);
}

void wait_for_started_devices() noexcept {
  for (int index = 0; index < kMostDevices; ++index) {
    if (!raw_state(index).started.load(std::memory_order_acquire)) continue;
    if (cudaSetDevice(index) == cudaSuccess) cudaDeviceSynchronize();
  }
}

void count_wait() {
  TENDRIL_CHECK(!is_recording_graph(),
                "[Graph] the host cannot wait for numbers while a graph is recorded; keep item(), "
                "to_vector() and to(x, Device::cpu()) out of the recorded work");
  waits.fetch_add(1, std::memory_order_relaxed);
}

int64_t synchronization_count() { return waits.load(std::memory_order_relaxed); }
int64_t bytes_to_host() { return bytes_read.load(std::memory_order_relaxed); }

// ---------------------------------------------------------------- memory

void* allocate(Device device, int64_t bytes) {
  state_of(device);
  make_current(device.index);
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, static_cast<size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaMalloc");
  return data;
}

// cudaFree waits for the device, so that nothing still uses the memory.
void release(Device device, void* data) noexcept {
  if (cudaSetDevice(device.index) == cudaSuccess) cudaFree(data);
}

void* stream_tag(Device device) { return stream(device); }

namespace {

// What `waiting` gets from now on begins after all that `working` has got so far.
void let_wait(cudaStream_t waiting, Device waiting_device, cudaStream_t working,
              Device working_device) {
  make_current(working_device.index);
  cudaEvent_t mark = nullptr;
  TENDRIL_CUDA_CHECK(cudaEventCreateWithFlags(&mark, cudaEventDisableTiming));
  const std::unique_ptr<void, void (*)(void*)> owner(
      mark, [](void* event) { cudaEventDestroy(static_cast<cudaEvent_t>(event)); });
  TENDRIL_CUDA_CHECK(cudaEventRecord(mark, working));
  make_current(waiting_device.index);
  TENDRIL_CUDA_CHECK(cudaStreamWaitEvent(waiting, mark, 0));
}

}  // namespace

void transfer(void* to, Device to_device, const void* from, Device from_device, int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  if (from_device.is_cpu()) {
    TENDRIL_CUDA_CHECK(cudaMemcpyAsync(to, from, size, cudaMemcpyHostToDevice, stream(to_device)));
  } else if (to_device.is_cpu()) {
    const cudaStream_t on = stream(from_device);
    bytes_read.fetch_add(bytes, std::memory_order_relaxed);
    TENDRIL_CUDA_CHECK(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToHost, on));
    wait(state_of(from_device), on);
  } else {
    // The destination's device may still work on what its memory held before, and must not read it
    // before the numbers are there.
    const cudaStream_t target = stream(to_device), on = stream(from_device);
    let_wait(on, from_device, target, to_device);
    TENDRIL_CUDA_CHECK(cudaMemcpyPeerAsync(to, to_device.index, from, from_device.index, size, on));
    let_wait(target, to_device, on, from_device);
  }
}

Tensor pin_memory(const Tensor& x) {
  TENDRIL_CHECK(x.device().is_cpu(), "[pin_memory] needs a CPU tensor; got one on ", x.device());
  void* data = nullptr;
  TENDRIL_CUDA_CHECK(cudaMallocHost(&data, static_cast<size_t>(x.nbytes() > 0 ? x.nbytes() : 1)));
  const std::shared_ptr<void> owner(data, [](void* memory) { cudaFreeHost(memory); });
  const Tensor pinned = Tensor::external(data, x.shape(), x.dtype(), owner);
  ops::copy(pinned, x);
  return pinned;
}

// ---------------------------------------------------------------- streams and events

Stream::Stream(Device device) : device_(device) {
  state_of(device);
  make_current(device.index);
  cudaStream_t made = nullptr;
  TENDRIL_CUDA_CHECK(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
  handle_ = {made, [](void* handle) { cudaStreamDestroy(static_cast<cudaStream_t>(handle)); }};
}

Stream Stream::current(Device device) { return {device, borrowed(cuda::stream(device))}; }

void Stream::synchronize() const {
  make_current(device_.index);
  wait(state_of(device_), static_cast<cudaStream_t>(handle()));
}

StreamGuard::StreamGuard(const Stream& stream) : stream_(stream) {
  cudaStream_t& current = current_stream[static_cast<size_t>(stream.device().index)];
  previous_ = current;
  current = static_cast<cudaStream_t>(stream.handle());
}

StreamGuard::~StreamGuard() {
  current_stream[static_cast<size_t>(stream_.device().index)] =
      static_cast<cudaStream_t>(previous_);
}

Event::Event(Device device) : device_(device) {
  state_of(device);
  make_current(device.index);
  cudaEvent_t made = nullptr;
  TENDRIL_CUDA_CHECK(cudaEventCreate(&made));
  handle_ = {made, [](void* handle) { cudaEventDestroy(static_cast<cudaEvent_t>(handle)); }};
}

void Event::record() {
  TENDRIL_CUDA_CHECK(
      cudaEventRecord(static_cast<cudaEvent_t>(handle_.get()), cuda::stream(device_)));
}

void Event::wait() const {
  TENDRIL_CUDA_CHECK(
      cudaStreamWaitEvent(cuda::stream(device_), static_cast<cudaEvent_t>(handle_.get()), 0));
}

void Event::synchronize() const {
  waits.fetch_add(1, std::memory_order_relaxed);
  TENDRIL_CUDA_CHECK(cudaEventSynchronize(static_cast<cudaEvent_t>(handle_.get())));
}

double Event::milliseconds_since(const Event& start) const {
  synchronize();
  float elapsed = 0.0f;
  TENDRIL_CUDA_CHECK(cudaEventElapsedTime(&elapsed, static_cast<cudaEvent_t>(start.handle_.get()),
                                          static_cast<cudaEvent_t>(handle_.get())));
  return elapsed;
}

}  // namespace tendril::cuda
