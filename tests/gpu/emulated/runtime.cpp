// Launches and copies.
#include <cstring>
#include <map>
#include <mutex>

#include "devices.h"
#include "emulated.h"
#include "include/cuda_runtime_api.h"
#include "memory.h"
#include "multiprocessor.h"
#include "status.h"
#include "streams.h"

using emulated::raise;

// ---------------------------------------------------------------- launches

namespace {

constexpr size_t kSharedUnasked = 48 * 1024;

// How much dynamic shared memory kernels were allowed, on each GPU.
struct Allowances {
  std::mutex mutex;
  std::map<std::pair<int, const void*>, size_t> bytes;
};

Allowances& allowances() {
  static auto* all = new Allowances;
  return *all;
}

size_t allowed_shared(const void* kernel) {
  Allowances& all = allowances();
  const std::lock_guard lock(all.mutex);
  const auto found = all.bytes.find({emulated::current_device(), kernel});
  return found == all.bytes.end() ? kSharedUnasked : found->second;
}

}  // namespace

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  if (value < 0 || static_cast<size_t>(value) > emulated::kMostShared)
    return raise(cudaErrorInvalidValue);
  Allowances& all = allowances();
  const std::lock_guard lock(all.mutex);
  all.bytes[{emulated::current_device(), kernel}] = static_cast<size_t>(value);
  return cudaSuccess;
}

void emulated::launch(dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                      std::function<void()> kernel_of_one_thread, const void* identity,
                      std::initializer_list<const void*> pointers) {
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMostThreads || block.z > 64 || grid.x == 0 || grid.y == 0 ||
      grid.z == 0 || grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535) {
    raise(cudaErrorInvalidConfiguration);
    return;
  }
  if (!is_of_current_device(stream)) return;
  for (const void* pointer : pointers)
    if (const int owner = owner_of(pointer); owner >= 0 && owner != current_device()) {
      raise(cudaErrorIllegalAddress, "a kernel got the address of another GPU's memory");
      return;
    }
  if (shared > allowed_shared(identity)) {
    raise(cudaErrorInvalidValue,
          "a launch gives more dynamic shared memory than "
          "cudaFuncSetAttribute has allowed the kernel, or 48 KiB");
    return;
  }
  submit(stream, [=, kernel = std::move(kernel_of_one_thread)] {
    const std::string error = Multiprocessor::mine().run({grid, block, shared, &kernel});
    if (!error.empty()) raise(cudaErrorLaunchFailure, "a kernel failed: " + error);
  });
}

// ---------------------------------------------------------------- copies

cudaError_t cudaMemset(void* data, int value, size_t bytes) {
  return cudaMemsetAsync(data, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (emulated::owner_of(data, bytes) != emulated::device_of(stream))
    return raise(cudaErrorInvalidValue, "cudaMemset outside of the device's memory");
  emulated::submit(stream, [=] { std::memset(data, value, bytes); });
  return cudaSuccess;
}

namespace {

constexpr int kHost = -1;

// Between the places that the caller says, each kHost or a GPU.
cudaError_t copy(void* to, int to_place, const void* from, int from_place, size_t bytes,
                 cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const auto lies = [bytes](const void* data, int place) {
    return emulated::owner_of(data, place == kHost ? 0 : bytes) == place;
  };
  if (!lies(to, to_place) || !lies(from, from_place))
    return raise(cudaErrorInvalidValue,
                 "cudaMemcpy between other places than its kind and its stream say");
  emulated::submit(stream, [=] { std::memmove(to, from, bytes); });
  return cudaSuccess;
}

}  // namespace

// Nobody has enabled access between GPUs: the memory must be that of the stream's.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const int device = emulated::device_of(stream);
  return copy(to, kind == cudaMemcpyDeviceToHost ? kHost : device, from,
              kind == cudaMemcpyHostToDevice ? kHost : device, bytes, stream);
}

cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device,
                                size_t bytes, cudaStream_t stream) {
  for (const int device : {to_device, from_device})
    if (device < 0 || device >= emulated::device_count()) return raise(cudaErrorInvalidDevice);
  return copy(to, to_device, from, from_device, bytes, stream);
}
