#include <tendril/core/ops/random_fill.h>
#include <tendril/core/cuda/runtime.cuh>

namespace tendril::ops::cuda {
namespace {

constexpr int kThreads = 256;

// A thread has one block of four words.
template <class Numbers, class T>
__global__ void __launch_bounds__(kThreads)
    random_kernel(T* x, int64_t count, const RandomKey key) {
  const int64_t block = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (block * 4 >= count) return;
  T values[4];
  Numbers()(key.block(static_cast<uint64_t>(block)), values);
#pragma unroll
  for (int j = 0; j < 4; ++j)
    if (block * 4 + j < count) x[block * 4 + j] = values[j];
}

template <template <class> class Numbers>
void fill_random(const Tensor& x, const RandomKey& key) {
  const int64_t count = x.numel();
  if (count == 0) return;
  const cudaStream_t stream = tendril::cuda::stream(x.device());
  visit_floating("random", x.dtype(), [&]<class T>(TypeTag<T>) {
    random_kernel<Numbers<T>, T>
        <<<tendril::cuda::blocks_for(count, 4 * kThreads), kThreads, 0, stream>>>(x.data<T>(),
                                                                                  count, key);
  });
  TENDRIL_CUDA_CHECK_LAUNCH("random");
}

}  // namespace

void fill_uniform(const Tensor& x, const RandomKey& key) { fill_random<UniformNumbers>(x, key); }
void fill_normal(const Tensor& x, const RandomKey& key) { fill_random<NormalNumbers>(x, key); }

}  // namespace tendril::ops::cuda
