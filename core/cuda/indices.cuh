// How kernels number the elements of a grid: one thread takes every step()-th of them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tendril::cuda {

inline constexpr int kThreads = 256;

__device__ inline int64_t first_index() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ inline int64_t index_step() { return int64_t{gridDim.x} * blockDim.x; }

struct Quotient {
  int64_t quotient, rest;
};
/// position / size and the rest, in 32 bits where that suffices: 64-bit divisions are slow.
__device__ inline Quotient divide(int64_t position, int64_t size) {
  if ((position | size) >> 32 == 0) {
    const auto p = static_cast<uint32_t>(position), s = static_cast<uint32_t>(size);
    const uint32_t quotient = p / s;
    return {quotient, p - quotient * s};
  }
  return {position / size, position % size};
}

__device__ inline bool in_range(int64_t index, int64_t size) {
  return static_cast<uint64_t>(index) < static_cast<uint64_t>(size);
}

}  // namespace tendril::cuda
