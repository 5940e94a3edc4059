#include "samples.h"

#include <cuda_pipeline.h>
#include <cuda_runtime.h>

namespace emulated::samples {
namespace {

__global__ void reverse_kernel(const int* in, int* out, bool with_barrier) {
  __shared__ int values[1024];
  const int i = threadIdx.x, first = blockIdx.x * blockDim.x;
  values[i] = in[first + i];
  if (with_barrier) __syncthreads();
  out[first + i] = values[blockDim.x - 1 - i];
}

__global__ void number_kernel(int* out) {
  const int in_block = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + in_block] = in_block;
}

__global__ void shuffle_kernel(Shuffle kind, const int* in, int* out, int by, int width) {
  const int i = threadIdx.x;
  const int mine = in[i];
  if (kind == Shuffle::up)
    out[i] = __shfl_up_sync(~0u, mine, by, width);
  else if (kind == Shuffle::down)
    out[i] = __shfl_down_sync(~0u, mine, by, width);
  else if (kind == Shuffle::exclusive_or)
    out[i] = __shfl_xor_sync(~0u, mine, by, width);
  else
    out[i] = __shfl_sync(~0u, mine, by, width);
}

struct Pair {
  int once, hundredfold;
};

__global__ void exchange_kernel(int* out, int leave_from) {
  const int i = threadIdx.x;
  if (i % 32 >= leave_from) return;
  int sum = 0;
  // Twice: a fast lane must not overwrite what a slow one still reads.
  for (int round = 0; round < 2; ++round)
    for (const Pair& pair : ::emulated::exchange(Pair{i, 100 * i}))
      sum += pair.once + pair.hundredfold;
  out[i] = sum / 2;
}

__global__ void ballot_kernel(const int* in, unsigned* out) {
  const unsigned lanes = __ballot_sync(~0u, in[threadIdx.x] != 0);
  if (threadIdx.x == 0) *out = lanes;
}

__global__ void unset_kernel(uint32_t* out) {
  extern __shared__ uint32_t dynamic[];
  __shared__ uint32_t fixed[2];
  out[2 * blockIdx.x] = fixed[1];
  out[2 * blockIdx.x + 1] = dynamic[3];
  fixed[1] = 5;
  dynamic[3] = 7;
}

__global__ void copy_kernel(const int* in, int* out, int valid, bool with_wait) {
  __shared__ uint4 pieces[64];
  const int i = threadIdx.x;
  pieces[i] = {1, 1, 1, 1};
  ::emulated::copy_async(&pieces[i], in + 4 * i, 16, static_cast<size_t>(valid));
  __pipeline_commit();
  if (with_wait) __pipeline_wait_prior(0);
  const int* mine = reinterpret_cast<const int*>(&pieces[i]);
  for (int k = 0; k < 4; ++k) out[4 * i + k] = 2 * mine[k];
  __pipeline_wait_prior(0);
}

__global__ void count_kernel(int* counts) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  ++counts[i];
}

__global__ void __launch_bounds__(128) wrong_kernel(Wrong what) {
  extern __shared__ uint4 dynamic[];
  const int i = threadIdx.x;
  const bool half = i % 2 == 0;
  switch (what) {
    case Wrong::barrier_in_branch:
      if (half) __syncthreads();
      break;
    case Wrong::two_barriers:
      if (half)
        __syncthreads();
      else
        __syncthreads();
      break;
    case Wrong::barrier_after_return:
      if (half) return;
      __syncthreads();
      break;
    case Wrong::two_shuffles:
      if (half)
        __shfl_xor_sync(~0u, i, 1);
      else
        __shfl_xor_sync(~0u, i, 1);
      break;
    case Wrong::shuffle_and_barrier:
      if (i == 3)
        __syncthreads();
      else
        __shfl_xor_sync(~0u, i, 1);
      break;
    case Wrong::some_lanes:
      __shfl_xor_sync(0xFFFFu, i, 1);
      break;
    case Wrong::address_beyond_shared:
      ::emulated::shared_at(::emulated::shared_address(dynamic) + 64, 16);
      break;
    case Wrong::write_beyond_shared:
      dynamic[4].x = 1;
      break;
    case Wrong::copy_without_wait:
      __pipeline_memcpy_async(&dynamic[0], &dynamic[1], 16);
      break;
    case Wrong::misaligned_copy:
      __pipeline_memcpy_async(reinterpret_cast<char*>(dynamic) + 4, &dynamic[1], 16);
      break;
    case Wrong::too_many_threads:
      break;
  }
}

__global__ void idle_kernel() {}

}  // namespace

void reverse(const int* in, int* out, int blocks, int threads, bool with_barrier,
             cudaStream_t stream) {
  reverse_kernel<<<blocks, threads, 0, stream>>>(in, out, with_barrier);
}

void number_threads(int* out, dim3 blocks, dim3 threads) {
  number_kernel<<<blocks, threads>>>(out);
}

void shuffle(Shuffle kind, const int* in, int* out, int threads, int by, int width) {
  shuffle_kernel<<<1, threads>>>(kind, in, out, by, width);
}

void exchange_sums(int* out, int threads, int leave_from) {
  exchange_kernel<<<1, threads>>>(out, leave_from);
}

void ballot(const int* in, unsigned* out) { ballot_kernel<<<1, 32>>>(in, out); }

void unset_shared(uint32_t* out, int blocks) { unset_kernel<<<blocks, 1, 16>>>(out); }

void copy_in(const int* in, int* out, int threads, int valid, bool with_wait) {
  copy_kernel<<<1, threads>>>(in, out, valid, with_wait);
}

void count(int* counts, int blocks, int threads, cudaStream_t stream) {
  count_kernel<<<blocks, threads, 0, stream>>>(counts);
}

void do_wrong(Wrong what, int threads) { wrong_kernel<<<3, threads, 64>>>(what); }

void launch_with(int threads, size_t shared, bool allow) {
  if (allow)
    cudaFuncSetAttribute(idle_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(shared));
  idle_kernel<<<1, threads, shared>>>();
}

}  // namespace emulated::samples
