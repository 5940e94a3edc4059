#include <tendril/core/ops/copy.h>
#include <tendril/core/random.h>
#include <tendril/core/cuda/runtime.cuh>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::ops::cuda {
namespace {

constexpr int kThreads = 256;

// A thread takes `kRun` neighbours: whole Philox blocks of four, and at least 16 bytes.
template <class T>
constexpr int kRun = tendril::cuda::kVector<T> < 4 ? 4 : tendril::cuda::kVector<T>;

template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(const T* x, T* y, int64_t count, RandomKey key, uint32_t threshold,
                   compute_t<T> scale) {
  constexpr int N = kRun<T>;
  using Run = tendril::cuda::Vector<T, N>;
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at >= count) return;
  const bool whole = at + N <= count;
  Run run{};
  if (whole) {
    run = tendril::cuda::load_vector<T, N>(x + at);
  } else {
#pragma unroll
    for (int j = 0; j < N; ++j)
      if (at + j < count) run.v[j] = x[at + j];
  }
#pragma unroll
  for (int j = 0; j < N; j += 4) {
    const PhiloxBlock words = key.block(static_cast<uint64_t>(at + j) / 4);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      // A select, not a product with 0: a dropped infinity or NaN is gone.
      const compute_t<T> kept = static_cast<compute_t<T>>(run.v[j + k]) * scale;
      run.v[j + k] = words[k] < threshold ? T(0) : T(kept);
    }
  }
  if (whole) {
    tendril::cuda::store_vector<T, N>(y + at, run);
  } else {
#pragma unroll
    for (int j = 0; j < N; ++j)
      if (at + j < count) y[at + j] = run.v[j];
  }
}

}  // namespace

Tensor dropout(const Tensor& x, double p, RandomKey key) {
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const int64_t count = x.numel();
  if (count == 0) return y;
  const Tensor dense = contiguous(x);
  visit_floating("dropout", x.dtype(), [&]<class T>(TypeTag<T>) {
    constexpr int N = kRun<T>;
    const bool aligned = tendril::cuda::aligned_for<T, N>(dense.data<T>());
    const Tensor in = aligned ? dense : clone(dense);
    dropout_kernel<<<tendril::cuda::blocks_for(count, kThreads * N), kThreads, 0,
                     tendril::cuda::stream(x.device())>>>(
        in.data<T>(), y.data<T>(), count, key, drop_threshold(p),
        static_cast<compute_t<T>>(1.0 / (1.0 - p)));
  });
  TENDRIL_CUDA_CHECK_LAUNCH("dropout");
  return y;
}

}  // namespace tendril::ops::cuda
