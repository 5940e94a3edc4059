// Kernels made of the code that CPU loops and CUDA kernels share: 16-bit floats, random numbers and
// the pointwise functors. Compiled only, to keep that code fit for the device.
#include <cstdint>

#include <tendril/core/half.h>
#include <tendril/core/random.h>

namespace tendril::cuda_check {

// out[i] = in[i], rounded to 16 bits and widened again.
template <class Half>
__global__ void round_trip(const float* in, float* out, int64_t n) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (i < n) out[i] = static_cast<float>(Half(in[i]));
}

template __global__ void round_trip<bfloat16>(const float*, float*, int64_t);
template __global__ void round_trip<float16>(const float*, float*, int64_t);

// One thread fills four uniform numbers, as the CPU does for element 4 * block.
__global__ void fill_uniform(float* out, int64_t blocks, RandomKey key) {
  const int64_t block = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (block >= blocks) return;
  const PhiloxBlock bits = key.block(static_cast<uint64_t>(block));
  for (int i = 0; i < 4; ++i) out[4 * block + i] = uniform_from_bits(bits[i]);
}

// A dropout mask, element by element.
__global__ void drop(float* x, int64_t n, RandomKey key, uint32_t threshold, float scale) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (i < n) x[i] = key.bits(static_cast<uint64_t>(i)) >= threshold ? x[i] * scale : 0.0f;
}

}  // namespace tendril::cuda_check
