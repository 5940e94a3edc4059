#include <tendril/core/ops/convert.h>
#include <tendril/core/random.h>
#include <tendril/core/cuda/runtime.cuh>

namespace tendril::ops::cuda {
namespace {

constexpr int kThreads = 256;

// A thread takes one Philox block: four neighbours.
template <class T>
__global__ void bernoulli_kernel(const T* probability, T* out, int64_t count, RandomKey key,
                                 tendril::cuda::IndexFault* fault, tendril::cuda::HostText op,
                                 tendril::cuda::HostText rule) {
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  if (at >= count) return;
  const PhiloxBlock words = key.block(static_cast<uint64_t>(at) / 4);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (at + j >= count) break;
    const double p = convert<double>(probability[at + j]);
    if (!(p >= 0.0 && p <= 1.0)) fault->report_value(op, rule, p);
    out[at + j] = convert<T>(words[j] < p * 0x1p32 ? 1.0 : 0.0);
  }
}

}  // namespace

// `probability` and `out` are dense and not empty.
void bernoulli(const Tensor& probability, const RandomKey& key, const Tensor& out) {
  const Device device = out.device();
  visit_floating("bernoulli", out.dtype(), [&]<class T>(TypeTag<T>) {
    bernoulli_kernel<<<tendril::cuda::blocks_for(out.numel(), 4 * kThreads), kThreads, 0,
                       tendril::cuda::stream(device)>>>(
        probability.data<T>(), out.data<T>(), out.numel(), key, tendril::cuda::index_fault(device),
        "bernoulli", "probabilities must lie in [0, 1]");
  });
  TENDRIL_CUDA_CHECK_LAUNCH("bernoulli");
}

}  // namespace tendril::ops::cuda
