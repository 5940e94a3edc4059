// Memory for tensors: a caching allocator per device with statistics.
// Freed blocks are kept and reused, so that a steady training step asks the system for nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <tendril/core/device.h>

namespace tendril {

struct MemoryStats {
  int64_t current_bytes = 0;       // held by live tensors (after rounding to block sizes)
  int64_t peak_bytes = 0;          // highest current_bytes since start or the last reset
  int64_t reserved_bytes = 0;      // current_bytes plus cached blocks
  int64_t allocations = 0;         // blocks handed out since the start
  int64_t system_allocations = 0;  // requests to the system: blocks that the cache could not
                                   // serve, and the threads' own working memory
};

TENDRIL_API MemoryStats memory_stats(Device device = Device::cpu());
/// Sets peak_bytes to current_bytes.
TENDRIL_API void reset_peak_memory_stats(Device device = Device::cpu());
/// Returns all cached blocks to the system.
TENDRIL_API void empty_cache(Device device = Device::cpu());

/// For memory that stays. While one lives, what this thread allocates comes from the system even
/// where cached blocks would fit: state that first appears in the middle of a training step (an
/// optimizer's) must not take the blocks that the next step works in.
class TENDRIL_API LastingMemoryScope {
 public:
  LastingMemoryScope();
  ~LastingMemoryScope();
  LastingMemoryScope(const LastingMemoryScope&) = delete;
  LastingMemoryScope& operator=(const LastingMemoryScope&) = delete;

 private:
  bool previous_;
};

namespace detail {
/// Adds one to memory_stats().system_allocations: for memory that does not come from here.
void count_system_allocation();
}  // namespace detail

/// Memory that is there only while it is needed. Whoever keeps a tensor's numbers elsewhere
/// (sharding does, on other processes) derives from it.
class TENDRIL_API StorageSource {
 public:
  virtual ~StorageSource();
  /// The memory, filled. Called whenever a tensor's numbers are about to be read or written, by any
  /// thread; it stays valid until the operation that asked is over.
  virtual void* provide() = 0;
};

/// One block of memory on a device, returned to the allocator when the last owner goes.
/// The block also carries the version counter by which the tape notices in-place changes.
class TENDRIL_API Storage {
 public:
  /// At least `bytes` bytes, aligned to 64, uninitialised. Error when the system has no more
  /// memory.
  static std::shared_ptr<Storage> allocate(int64_t bytes, Device device);
  /// Foreign memory. `owner` is kept until the storage goes; it may be null for memory that
  /// outlives it.
  static std::shared_ptr<Storage> wrap(void* data, int64_t bytes, Device device,
                                       std::shared_ptr<void> owner);
  /// Memory that `source` provides when it is asked for, aligned to 64.
  static std::shared_ptr<Storage> on_demand(int64_t bytes, Device device,
                                            std::shared_ptr<StorageSource> source);

  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return source_ ? source_->provide() : data_; }
  bool is_on_demand() const { return source_ != nullptr; }
  int64_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  uint32_t version() const { return version_; }
  void bump_version() { ++version_; }

 private:
  Storage() = default;
  void* data_ = nullptr;
  void* stream_ = nullptr;  // of a GPU, on which the block may be reused
  int64_t bytes_ = 0;
  int64_t block_bytes_ = 0;  // 0: foreign memory
  Device device_;
  uint32_t version_ = 0;
  std::shared_ptr<void> owner_;
  std::shared_ptr<StorageSource> source_;
};

}  // namespace tendril
