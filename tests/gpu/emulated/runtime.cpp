// The device, launches and copies.
#include <cstring>
#include <map>
#include <mutex>

#include "emulated.h"
#include "include/cuda_runtime_api.h"
#include "memory.h"
#include "multiprocessor.h"
#include "status.h"

using emulated::raise;

// ---------------------------------------------------------------- the device

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : raise(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return raise(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "emulated GPU");
  properties->major = 8;  // no file of kernels for 9.0a is compiled
  properties->minor = 0;
  properties->multiProcessorCount = 4;  // few: partial sums are as many
  size_t free = 0;
  cudaMemGetInfo(&free, &properties->totalGlobalMem);
  properties->sharedMemPerBlockOptin = emulated::kMostShared;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}

// ---------------------------------------------------------------- launches

namespace {

constexpr size_t kSharedUnasked = 48 * 1024;

// How much dynamic shared memory kernels were allowed.
struct Allowances {
  std::mutex mutex;
  std::map<const void*, size_t> bytes;
};

Allowances& allowances() {
  static auto* all = new Allowances;
  return *all;
}

size_t allowed_shared(const void* kernel) {
  Allowances& all = allowances();
  const std::lock_guard lock(all.mutex);
  const auto found = all.bytes.find(kernel);
  return found == all.bytes.end() ? kSharedUnasked : found->second;
}

}  // namespace

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  if (value < 0 || static_cast<size_t>(value) > emulated::kMostShared)
    return raise(cudaErrorInvalidValue);
  Allowances& all = allowances();
  const std::lock_guard lock(all.mutex);
  all.bytes[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

void emulated::launch(dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                      std::function<void()> kernel_of_one_thread, const void* identity) {
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMostThreads || block.z > 64 || grid.x == 0 || grid.y == 0 ||
      grid.z == 0 || grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535) {
    raise(cudaErrorInvalidConfiguration);
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
  if (!emulated::is_device_memory(data, bytes))
    return raise(cudaErrorInvalidValue, "cudaMemset outside of the device's memory");
  emulated::submit(stream, [=] { std::memset(data, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const bool to_device = kind != cudaMemcpyDeviceToHost,
             from_device = kind != cudaMemcpyHostToDevice;
  const auto fits = [bytes](const void* data, bool device) {
    return device ? emulated::is_device_memory(data, bytes)
                  : !emulated::touches_device_memory(data);
  };
  if (!fits(to, to_device) || !fits(from, from_device))
    return raise(cudaErrorInvalidValue, "cudaMemcpy between other places than its kind says");
  emulated::submit(stream, [=] { std::memmove(to, from, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device,
                                size_t bytes, cudaStream_t stream) {
  if (to_device != 0 || from_device != 0) return raise(cudaErrorInvalidDevice);
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}
