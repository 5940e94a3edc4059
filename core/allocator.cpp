#include <tendril/core/allocator.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <tendril/core/cuda.h>
#include <tendril/core/cuda/memory.h>
#include <tendril/core/error.h>

namespace tendril {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int kMostDevices = 16;

// Block sizes grow by an eighth of a power of two: at most 12.5 % is wasted and blocks of slightly
// different tensors are interchangeable.
int64_t block_size(int64_t bytes) {
  if (bytes <= 8 * kAlignment)
    return (std::max<int64_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  const int64_t step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes))) / 8;
  return (bytes + step - 1) / step * step;
}

thread_local bool lasting = false;  // inside a LastingMemoryScope

// Where blocks come from.
struct System {
  Device device;

  void* allocate(int64_t bytes) const {
    if (device.is_cpu()) return std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
#ifdef TENDRIL_WITH_CUDA
    return cuda::allocate(device, bytes);
#else
    return nullptr;
#endif
  }

  void release(void* data) const noexcept {
#ifdef TENDRIL_WITH_CUDA
    if (device.is_cuda()) return cuda::release(device, data);
#endif
    std::free(data);
  }

  // A GPU works through its stream later than the host queues it: memory given back by one tensor
  // can go to the next at once, but only on the same stream.
  void* stream() const {
#ifdef TENDRIL_WITH_CUDA
    if (device.is_cuda()) return cuda::stream_tag(device);
#endif
    return nullptr;
  }
};

struct Block {
  void* data;
  void* stream;  // null on the CPU
};

class CachingAllocator {
 public:
  explicit CachingAllocator(Device device) : system_{device} {}

  Block allocate(int64_t size) {
    void* const stream = system_.stream();
    const std::lock_guard lock(mutex_);
    void* data = lasting ? nullptr : take_cached({size, stream});
    if (!data) data = take_from_system(size);
    ++stats_.allocations;
    ++live_[size];
    stats_.current_bytes += size;
    stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.current_bytes);
    return {data, stream};
  }

  void release(Block block, int64_t size) noexcept {
    const std::lock_guard lock(mutex_);
    stats_.current_bytes -= size;
    --live_[size];
    try {
      cache_[{size, block.stream}].push_back(block.data);
    } catch (...) {  // no memory for the list: give the block back instead
      system_.release(block.data);
      stats_.reserved_bytes -= size;
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
  struct Key {
    int64_t size;
    void* stream;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      return std::hash<int64_t>()(key.size) ^ std::hash<void*>()(key.stream) * 31;
    }
  };

  void* take_cached(const Key& key) {
    const auto found = cache_.find(key);
    if (found == cache_.end() || found->second.empty()) return nullptr;
    void* data =
        found->second.back();  // the most recently freed block: likely still in the CPU cache
    found->second.pop_back();
    return data;
  }

  void* take_from_system(int64_t size) {
    void* data = system_.allocate(size);
    if (!data) {
      drop_cache();
      data = system_.allocate(size);
    }
    if (!data)
      throw OutOfMemory(detail::concat(
          "[allocator] out of memory on ", system_.device, ": asked for ", size,
          " bytes while tensors hold ", stats_.current_bytes, " bytes (peak ", stats_.peak_bytes,
          ")", largest_holders(), "; use a smaller batch, checkpoint() or a smaller model"));
    ++stats_.system_allocations;
    stats_.reserved_bytes += size;
    return data;
  }

  // ", mostly 12 x 805306368, 24 x 150994944 bytes"
  std::string largest_holders() const {
    std::vector<std::pair<int64_t, int64_t>> holders;  // bytes, block size
    for (const auto& [size, count] : live_)
      if (count > 0) holders.emplace_back(size * count, size);
    std::sort(holders.rbegin(), holders.rend());
    std::string text;
    for (size_t i = 0; i < std::min<size_t>(holders.size(), 4); ++i) {
      const auto [bytes, size] = holders[i];
      text += i == 0 ? ", mostly " : ", ";
      text += detail::concat(bytes / size, " x ", size);
    }
    if (!text.empty()) text += " bytes";
    return text;
  }

  void drop_cache() {
    for (auto& [key, list] : cache_) {
      for (void* data : list) system_.release(data);
      stats_.reserved_bytes -= key.size * static_cast<int64_t>(list.size());
    }
    cache_.clear();
  }

  System system_;
  std::mutex mutex_;
  MemoryStats stats_;
  std::unordered_map<Key, std::vector<void*>, KeyHash> cache_;
  std::unordered_map<int64_t, int64_t> live_;  // block size -> how many tensors hold one
};

void require_device(Device device) {
#ifdef TENDRIL_WITH_CUDA
  const int gpus = device.is_cuda() ? std::min(cuda::device_count(), kMostDevices) : 0;
  TENDRIL_CHECK(device.is_cpu() || (device.index >= 0 && device.index < gpus),
                "[allocator] there is no ", device, ": ", gpus,
                " GPUs can be used; check the driver and CUDA_VISIBLE_DEVICES");
#else
  TENDRIL_CHECK(device.is_cpu(),
                "[allocator] this build of Tendril has no CUDA backend; got device ", device,
                "; use Device::cpu()");
#endif
}

// Never destroyed: tensors with static storage duration may be freed after any destructor here.
CachingAllocator& allocator_of(Device device) {
  static auto* cpu = new CachingAllocator(Device::cpu());
  if (device.is_cpu()) return *cpu;
  static auto* gpus = [] {
    auto* all = new std::vector<std::unique_ptr<CachingAllocator>>;
    for (int i = 0; i < kMostDevices; ++i)
      all->push_back(std::make_unique<CachingAllocator>(Device::cuda(i)));
    return all;
  }();
  return *(*gpus)[static_cast<size_t>(device.index)];
}

}  // namespace

MemoryStats memory_stats(Device device) {
  require_device(device);
  return allocator_of(device).stats();
}

void reset_peak_memory_stats(Device device) {
  require_device(device);
  allocator_of(device).reset_peak();
}

void empty_cache(Device device) {
  require_device(device);
  allocator_of(device).empty_cache();
}

LastingMemoryScope::LastingMemoryScope() : previous_(std::exchange(lasting, true)) {}
LastingMemoryScope::~LastingMemoryScope() { lasting = previous_; }

void detail::count_system_allocation() { allocator_of(Device::cpu()).count_system_allocation(); }

std::shared_ptr<Storage> Storage::allocate(int64_t bytes, Device device) {
  require_device(device);
  TENDRIL_CHECK(bytes >= 0 && bytes < (int64_t{1} << 60), "[allocator] cannot allocate ", bytes,
                " bytes");
  std::shared_ptr<Storage> storage(new Storage);
  const int64_t block = block_size(bytes);
  const Block memory = allocator_of(device).allocate(block);
  storage->data_ = memory.data;
  storage->stream_ = memory.stream;
  storage->device_ = device;
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

StorageSource::~StorageSource() = default;

std::shared_ptr<Storage> Storage::on_demand(int64_t bytes, Device device,
                                            std::shared_ptr<StorageSource> source) {
  TENDRIL_CHECK(source, "[storage] memory on demand needs a source; got null");
  std::shared_ptr<Storage> storage(new Storage);
  storage->bytes_ = bytes;
  storage->device_ = device;
  storage->source_ = std::move(source);
  return storage;
}

Storage::~Storage() {
  if (block_bytes_) allocator_of(device_).release({data_, stream_}, block_bytes_);
}

}  // namespace tendril
