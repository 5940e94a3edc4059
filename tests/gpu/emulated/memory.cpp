#include "memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "status.h"

namespace emulated {
namespace {

constexpr size_t kTotal = size_t{4} << 30;
constexpr size_t kAlignment = 256;  // cudaMalloc's
constexpr int kUnset = 0xFF;        // NaN in every floating type, -1 in every integer

// Never destroyed: tensors with static storage duration may outlive any destructor here.
struct Allocations {
  std::mutex mutex;
  std::map<uintptr_t, size_t> sizes;  // by address
  size_t used = 0;
};

Allocations& allocations() {
  static auto* all = new Allocations;
  return *all;
}

// The allocation that holds the address, or end(). The mutex is held.
auto find(Allocations& all, const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  auto found = all.sizes.upper_bound(address);
  if (found == all.sizes.begin()) return all.sizes.end();
  --found;
  return address < found->first + found->second ? found : all.sizes.end();
}

}  // namespace

bool is_device_memory(const void* data, size_t bytes) {
  Allocations& all = allocations();
  const std::lock_guard lock(all.mutex);
  const auto found = find(all, data);
  return found != all.sizes.end() &&
         reinterpret_cast<uintptr_t>(data) + bytes <= found->first + found->second;
}

bool touches_device_memory(const void* data) { return is_device_memory(data, 0); }

}  // namespace emulated

using emulated::raise;

cudaError_t cudaMalloc(void** data, size_t bytes) {
  auto& all = emulated::allocations();
  const std::lock_guard lock(all.mutex);
  *data = nullptr;
  if (bytes == 0) return cudaSuccess;
  const size_t rounded =
      (bytes + emulated::kAlignment - 1) / emulated::kAlignment * emulated::kAlignment;
  if (rounded < bytes || rounded > emulated::kTotal - all.used)
    return raise(cudaErrorMemoryAllocation);
  void* memory = std::aligned_alloc(emulated::kAlignment, rounded);
  if (!memory) return raise(cudaErrorMemoryAllocation);
  std::memset(memory, emulated::kUnset, rounded);
  all.sizes.emplace(reinterpret_cast<uintptr_t>(memory), rounded);
  all.used += rounded;
  *data = memory;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  if (!data) return cudaSuccess;
  auto& all = emulated::allocations();
  const std::lock_guard lock(all.mutex);
  const auto found = all.sizes.find(reinterpret_cast<uintptr_t>(data));
  if (found == all.sizes.end())
    return raise(cudaErrorInvalidValue,
                 "cudaFree of what is no allocation, or of one freed before");
  all.used -= found->second;
  all.sizes.erase(found);
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  auto& all = emulated::allocations();
  const std::lock_guard lock(all.mutex);
  *free = emulated::kTotal - all.used;
  *total = emulated::kTotal;
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
