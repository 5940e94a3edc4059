#include "memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "devices.h"
#include "status.h"

namespace emulated {
namespace {

constexpr size_t kAlignment = 256;  // cudaMalloc's
constexpr int kUnset = 0xFF;        // NaN in every floating type, -1 in every integer

struct Allocation {
  size_t bytes;
  int device;
};

// Never destroyed: tensors with static storage duration may outlive any destructor here.
struct Allocations {
  std::mutex mutex;
  std::map<uintptr_t, Allocation> by_address;
  std::map<int, size_t> used;  // by device
};

Allocations& allocations() {
  static auto* all = new Allocations;
  return *all;
}

}  // namespace

int owner_of(const void* data, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  Allocations& all = allocations();
  const std::lock_guard lock(all.mutex);
  auto found = all.by_address.upper_bound(address);
  if (found == all.by_address.begin()) return -1;
  --found;
  const size_t offset = address - found->first;
  const Allocation& allocation = found->second;
  return offset < allocation.bytes && bytes <= allocation.bytes - offset ? allocation.device : -1;
}

}  // namespace emulated

using emulated::raise;

cudaError_t cudaMalloc(void** data, size_t bytes) {
  const int device = emulated::current_device();
  auto& all = emulated::allocations();
  const std::lock_guard lock(all.mutex);
  *data = nullptr;
  if (bytes == 0) return cudaSuccess;
  const size_t rounded =
      (bytes + emulated::kAlignment - 1) / emulated::kAlignment * emulated::kAlignment;
  if (rounded < bytes || rounded > emulated::kMemoryBytes - all.used[device])
    return raise(cudaErrorMemoryAllocation);
  void* memory = std::aligned_alloc(emulated::kAlignment, rounded);
  if (!memory) return raise(cudaErrorMemoryAllocation);
  std::memset(memory, emulated::kUnset, rounded);
  all.by_address.emplace(reinterpret_cast<uintptr_t>(memory),
                         emulated::Allocation{rounded, device});
  all.used[device] += rounded;
  *data = memory;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  if (!data) return cudaSuccess;
  auto& all = emulated::allocations();
  const std::lock_guard lock(all.mutex);
  const auto found = all.by_address.find(reinterpret_cast<uintptr_t>(data));
  if (found == all.by_address.end())
    return raise(cudaErrorInvalidValue,
                 "cudaFree of what is no allocation, or of one freed before");
  all.used[found->second.device] -= found->second.bytes;
  all.by_address.erase(found);
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  auto& all = emulated::allocations();
  const std::lock_guard lock(all.mutex);
  *free = emulated::kMemoryBytes - all.used[emulated::current_device()];
  *total = emulated::kMemoryBytes;
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** data, size_t bytes) {
  *data = std::malloc(bytes > 0 ? bytes : 1);
  return *data ? cudaSuccess : raise(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void* data) {
  std::free(data);
  return cudaSuccess;
}
