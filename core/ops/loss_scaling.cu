// Unscaling in one pass over all gradients, dozens of them in a launch.
#include <tendril/core/ops/loss_scaling.h>
#include <tendril/core/ops/loss_scaling_rule.h>

#include <cmath>

#include <tendril/core/ops/gradient_batch.cuh>

namespace tendril::ops::cuda {
namespace {

// Threads that find something write the same number, in whatever order.
template <class T>
__global__ void __launch_bounds__(kGradientThreads)
    unscale_kernel(const __grid_constant__ GradientBatch batch, const float* scale,
                   int64_t* found_inf) {
  using C = compute_t<T>;
  const C inverse = static_cast<C>(inverse_loss_scale(*scale));
  bool finite = true;
  change_piece<T>(batch, batch.piece(blockIdx.x), [&](T x) {
    const C value = static_cast<C>(x);
    finite = finite && std::isfinite(value);
    return static_cast<T>(value * inverse);
  });
  if (!finite) *found_inf = 1;
}

__global__ void move_kernel(float* scale, int64_t* tracker, const int64_t* found_inf,
                            const LossScaleRule rule) {
  move_loss_scale(*scale, *tracker, *found_inf != 0, rule);
}

}  // namespace

void unscale_all(std::span<const Tensor> tensors, const Tensor& scale, const Tensor& found_inf) {
  const cudaStream_t stream = tendril::cuda::stream(scale.device());
  for_each_gradient_batch("unscale", tensors, [&]<class T>(TypeTag<T>, const GradientBatch& batch) {
    unscale_kernel<T><<<batch.chunks(), kGradientThreads, 0, stream>>>(batch, scale.data<float>(),
                                                                       found_inf.data<int64_t>());
  });
  TENDRIL_CUDA_CHECK_LAUNCH("unscale");
}

void update_loss_scale(const Tensor& scale, const Tensor& tracker, const Tensor& found_inf,
                       const LossScaleRule& rule) {
  move_kernel<<<1, 1, 0, tendril::cuda::stream(scale.device())>>>(
      scale.data<float>(), tracker.data<int64_t>(), found_inf.data<int64_t>(), rule);
  TENDRIL_CUDA_CHECK_LAUNCH("loss_scale");
}

}  // namespace tendril::ops::cuda
