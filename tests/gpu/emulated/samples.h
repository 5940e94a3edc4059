// Small kernels, right and wrong, with which tests/test_emulated_gpu.cpp tests the emulator.
#pragma once

#include <cstdint>
#include <vector>

#include "include/cuda_runtime_api.h"

namespace emulated::samples {

/// Values in the device's memory.
template <class T>
class Array {
 public:
  explicit Array(const std::vector<T>& values) : size_(values.size()) {
    void* memory = nullptr;
    cudaMalloc(&memory, size_ * sizeof(T));
    data_ = static_cast<T*>(memory);
    cudaMemcpyAsync(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice, nullptr);
  }
  ~Array() { cudaFree(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() const { return data_; }
  std::vector<T> values() const {
    std::vector<T> result(size_);
    cudaMemcpyAsync(result.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost, nullptr);
    return result;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

/// out[i] of block b = in[(b + 1) threads - 1 - i]: through shared memory, with a barrier or
/// without.
void reverse(const int* in, int* out, int blocks, int threads, bool with_barrier,
             cudaStream_t stream);

/// Of every thread: its linear index in the block, from all three coordinates.
void number_threads(int* out, dim3 blocks, dim3 threads);

enum class Shuffle { up, down, exclusive_or, from };
/// out[i] = lane i's result of shuffling in[i] by `by` within groups of `width`.
void shuffle(Shuffle kind, const int* in, int* out, int threads, int by, int width);

/// out[i] = the sum over the lanes of the warp of what they posted; lanes from `leave_from` on have
/// returned, lane i posts {i, 100 i}.
void exchange_sums(int* out, int threads, int leave_from);

/// Bit i of out[0]: in[i] != 0.
void ballot(const int* in, unsigned* out);

/// out[0..1] = what the block finds in its unset shared memory, static and dynamic, in every block.
void unset_shared(uint32_t* out, int blocks);

/// out[i] = 2 in[i], by asynchronous copies of 16 bytes, `valid` of them; with the wait or without.
void copy_in(const int* in, int* out, int threads, int valid, bool with_wait);

/// count[0] += 1 in every thread.
void count(int* counts, int blocks, int threads, cudaStream_t stream);

/// The threads of the block do one of the things that a GPU forbids.
enum class Wrong {
  barrier_in_branch,     // half of the block passes by
  two_barriers,          // half of the block waits in another
  barrier_after_return,  // half of the block returned before
  two_shuffles,          // lanes of a warp in two places
  shuffle_and_barrier,   // a lane waits for the block, others for it
  some_lanes,            // a mask that does not name all lanes
  address_beyond_shared,
  write_beyond_shared,  // AddressSanitizer ends the program there
  copy_without_wait,
  misaligned_copy,
  too_many_threads  // more than __launch_bounds__
};
void do_wrong(Wrong what, int threads);

/// Launches with so many threads and so much dynamic shared memory, which is allowed first or not.
void launch_with(int threads, size_t shared, bool allow);

}  // namespace emulated::samples
