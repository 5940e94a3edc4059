// Reductions within a warp and a block, always in the same order: the same bits on every run.
#pragma once

#include <cuda_runtime.h>

namespace tendril::cuda {

inline constexpr int kWarp = 32;

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Larger {  // NaN wins
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};

/// Every lane gets the result of all lanes of its group of `kWidth` neighbours.
template <int kWidth = kWarp, class T, class Combine>
__device__ inline T warp_reduce(T value, Combine combine) {
#pragma unroll
  for (int offset = kWidth / 2; offset > 0; offset /= 2)
    value = combine(value, __shfl_xor_sync(0xFFFFFFFFu, value, offset));
  return value;
}

template <class T>
__device__ inline T warp_sum(T value) {
  return warp_reduce(value, Plus());
}

/// Every thread gets the result of all threads; `identity` combines to the other operand. All
/// threads of a one-dimensional block of whole warps must call it. `shared` holds kWarp values and
/// may be used again after the call.
template <class T, class Combine>
__device__ inline T block_reduce(T value, Combine combine, T identity, T* shared) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int warps = blockDim.x / kWarp;
  value = warp_reduce(value, combine);
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  value = warp_reduce(lane < warps ? shared[lane] : identity, combine);
  __syncthreads();
  return value;
}

template <class T>
__device__ inline T block_sum(T value, T* shared) {
  return block_reduce(value, Plus(), T(0), shared);
}

}  // namespace tendril::cuda
