#include <tendril/core/allocator.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include <tendril/core/error.h>

namespace tendril {
namespace {

constexpr int64_t kAlignment = 64;

// Block sizes grow by an eighth of a power of two: at most 12.5 % is wasted and blocks of slightly
// different tensors are interchangeable.
int64_t block_size(int64_t bytes) {
  if (bytes <= 8 * kAlignment)
    return (std::max<int64_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  const int64_t step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes))) / 8;
  return (bytes + step - 1) / step * step;
}

thread_local bool lasting = false;  // inside a LastingMemoryScope

class CpuAllocator {
 public:
  void* allocate(int64_t block) {
    const std::lock_guard lock(mutex_);
    void* data = lasting ? nullptr : take_cached(block);
    if (!data) data = take_from_system(block);
    ++stats_.allocations;
    stats_.current_bytes += block;
    stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.current_bytes);
    return data;
  }

  void release(void* data, int64_t block) noexcept {
    const std::lock_guard lock(mutex_);
    stats_.current_bytes -= block;
    try {
      cache_[block].push_back(data);
    } catch (...) {  // no memory for the list: give the block back instead
      std::free(data);
      stats_.reserved_bytes -= block;
    }
  }

  MemoryStats stats() {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak_bytes = stats_.current_bytes;
  }

  void empty_cache() {
    const std::lock_guard lock(mutex_);
    drop_cache();
  }

  void count_system_allocation() {
    const std::lock_guard lock(mutex_);
    ++stats_.system_allocations;
  }

 private:
  void* take_cached(int64_t block) {
    const auto found = cache_.find(block);
    if (found == cache_.end() || found->second.empty()) return nullptr;
    void* data =
        found->second.back();  // the most recently freed block: likely still in the CPU cache
    found->second.pop_back();
    return data;
  }

  void* take_from_system(int64_t block) {
    void* data = std::aligned_alloc(kAlignment, static_cast<size_t>(block));
    if (!data) {
      drop_cache();
      data = std::aligned_alloc(kAlignment, static_cast<size_t>(block));
    }
    TENDRIL_CHECK(data, "[allocator] out of memory on cpu: asked for ", block,
                  " bytes while tensors hold ", stats_.current_bytes, " bytes (peak ",
                  stats_.peak_bytes, "); use a smaller batch, checkpoint() or a smaller model");
    ++stats_.system_allocations;
    stats_.reserved_bytes += block;
    return data;
  }

  void drop_cache() {
    for (auto& [block, list] : cache_) {
      for (void* data : list) std::free(data);
      stats_.reserved_bytes -= block * static_cast<int64_t>(list.size());
    }
    cache_.clear();
  }

  std::mutex mutex_;
  MemoryStats stats_;
  std::unordered_map<int64_t, std::vector<void*>> cache_;
};

// Never destroyed: tensors with static storage duration may be freed after any destructor here.
CpuAllocator& cpu_allocator() {
  static CpuAllocator* allocator = new CpuAllocator;
  return *allocator;
}

void require_cpu(Device device) {
  TENDRIL_CHECK(device.is_cpu(),
                "[allocator] this build of Tendril has no CUDA backend; got device ", device,
                "; use Device::cpu()");
}

}  // namespace

MemoryStats memory_stats(Device device) {
  require_cpu(device);
  return cpu_allocator().stats();
}

void reset_peak_memory_stats(Device device) {
  require_cpu(device);
  cpu_allocator().reset_peak();
}

void empty_cache(Device device) {
  require_cpu(device);
  cpu_allocator().empty_cache();
}

LastingMemoryScope::LastingMemoryScope() : previous_(std::exchange(lasting, true)) {}
LastingMemoryScope::~LastingMemoryScope() { lasting = previous_; }

void detail::count_system_allocation() { cpu_allocator().count_system_allocation(); }

std::shared_ptr<Storage> Storage::allocate(int64_t bytes, Device device) {
  require_cpu(device);
  TENDRIL_CHECK(bytes >= 0 && bytes < (int64_t{1} << 60), "[allocator] cannot allocate ", bytes,
                " bytes");
  std::shared_ptr<Storage> storage(new Storage);
  const int64_t block = block_size(bytes);
  storage->data_ = cpu_allocator().allocate(block);
  storage->block_bytes_ = block;
  storage->bytes_ = bytes;
  return storage;
}

std::shared_ptr<Storage> Storage::wrap(void* data, int64_t bytes, Device device,
                                       std::shared_ptr<void> owner) {
  TENDRIL_CHECK(data || bytes == 0, "[storage] external memory must not be null; got null with ",
                bytes, " bytes");
  std::shared_ptr<Storage> storage(new Storage);
  storage->data_ = data;
  storage->bytes_ = bytes;
  storage->device_ = device;
  storage->owner_ = std::move(owner);
  return storage;
}

Storage::~Storage() {
  if (block_bytes_) cpu_allocator().release(data_, block_bytes_);
}

}  // namespace tendril
