// What the emulated GPU's headers stand on: the running thread, barriers, exchanges between the
// lanes of a warp, launches. README.md says what this is for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <source_location>
#include <type_traits>

#include "include/vector_types.h"

// Those of the running thread; outside of kernels they mean nothing.
extern constinit thread_local uint3 threadIdx, blockIdx;
extern constinit thread_local dim3 blockDim, gridDim;

namespace emulated {

/// The running thread of the running block.
struct Coordinates {
  uint3 thread, block;
  dim3 block_size, grid_size;
};

namespace detail {
inline constexpr size_t kMostExchanged = 64;  // bytes of a lane
/// From the 32 posts of a warp to what its lanes get.
using Combine = void (*)(const unsigned char* posts, unsigned char* results);
/// Posts `size` bytes for this lane and waits for the others of the warp; returns 32 slots of
/// `size` bytes, valid until the lane's next call. With `combine` the results instead.
const unsigned char* exchange_bytes(const void* mine, size_t size, std::source_location place,
                                    Combine combine = nullptr);
}  // namespace detail

inline Coordinates here() { return {threadIdx, blockIdx, blockDim, gridDim}; }

/// Of the warp, 0 to 31, from the linear thread index.
int lane();

/// __syncthreads: an error if a thread of the block has returned, or waits somewhere else.
void synchronize_block(std::source_location place = std::source_location::current());
/// __syncwarp: all lanes of the warp that have not returned.
void synchronize_warp(std::source_location place = std::source_location::current());

/// Every lane of the calling warp posts `mine` and sees all 32 (those of lanes that returned are
/// zero bytes). All lanes that have not returned must come to the same `place`, the caller's by
/// default.
template <class T>
std::array<T, 32> exchange(const T& mine,
                           std::source_location place = std::source_location::current()) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= detail::kMostExchanged);
  std::array<T, 32> all;
  std::memcpy(static_cast<void*>(all.data()), detail::exchange_bytes(&mine, sizeof mine, place),
              sizeof all);
  return all;
}

/// An operation of the whole warp: once all lanes have posted, kCombine makes 32 results of the 32
/// posts; every lane gets its own.
template <auto kCombine, class Result, class T>
Result combined(const T& mine, std::source_location place) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= detail::kMostExchanged);
  static_assert(std::is_trivially_copyable_v<Result> && sizeof(Result) <= detail::kMostExchanged);
  constexpr auto combine = [](const unsigned char* posts, unsigned char* results) {
    kCombine(*reinterpret_cast<const std::array<T, 32>*>(posts),
             *reinterpret_cast<std::array<Result, 32>*>(results));
  };
  const unsigned char* results = detail::exchange_bytes(&mine, sizeof mine, place, combine);
  Result result;
  std::memcpy(&result, results + static_cast<size_t>(lane()) * sizeof result, sizeof result);
  return result;
}

inline constexpr size_t kMostThreads = 1024;
inline constexpr size_t kMostShared = 227 * 1024;

/// Of the block, 1024-aligned, kMostShared bytes. Bytes beyond the size that the launch gave may
/// not be used; the end is checked after each block.
unsigned char* dynamic_shared();

/// 32-bit addresses of shared memory, as ldmatrix and cp.async take them: where `address` of
/// __cvta_generic_to_shared(pointer) lies. An error outside of the dynamic shared memory of the
/// launch, or if the `bytes` from there on are not aligned to `bytes` (a power of two).
unsigned char* shared_at(uint32_t address, size_t bytes);
uint32_t shared_address(const void* pointer);

/// cp.async of the running thread: `bytes` (4, 8 or 16, to which both addresses must be aligned) of
/// which those from `valid` on become 0. In every second block the copy happens at once, in the
/// others as late as it may: in the wait for its group.
void copy_async(void* to, const void* from, size_t bytes, size_t valid);
/// Closes the group of this thread's copies since the last one.
void commit_copies();
/// Waits until at most `pending` groups of this thread are unfinished.
void wait_copies(size_t pending);

/// Stops the running kernel with an error that the next check of the host reports. In kernels only.
[[noreturn]] void trap(const char* what);

/// Runs `work` (of the host: a library's operation, a copy) in the order of the stream: now, or
/// whenever the graph that the stream records into is replayed. Work of libraries (cuBLASLt, cub)
/// must pass through here, with everything that it reads captured by value.
void submit(cudaStream_t stream, std::function<void()> work);

/// What launches.cpp adds to kernels: after each `__shared__` variable, which is then filled with a
/// pattern once per block, and where `__launch_bounds__` is given.
void declare_shared(void* variable, size_t bytes);
inline void check_bounds(unsigned most_threads, unsigned /*least_blocks*/ = 0);

/// Queues a kernel; its arguments were copied by value into `kernel_of_one_thread`. `identity` is
/// the kernel's address, by which cudaFuncSetAttribute may have allowed it more than 48 KiB of
/// dynamic shared memory. `pointers`: the arguments that are addresses, which must not be those of
/// another GPU's memory.
void launch(dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
            std::function<void()> kernel_of_one_thread, const void* identity = nullptr,
            std::initializer_list<const void*> pointers = {});

inline void check_bounds(unsigned most_threads, unsigned) {
  if (blockDim.x * blockDim.y * blockDim.z > most_threads)
    trap("is in a block of more threads than the kernel's __launch_bounds__");
}

}  // namespace emulated
