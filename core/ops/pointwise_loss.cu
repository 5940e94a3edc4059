// Losses of pairs (x, t) of numbers on the GPU; the functors are in pointwise_loss.h.
#include <tendril/core/ops/pointwise_loss.h>

#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/loss.h>
#include <tendril/core/cuda/block.cuh>
#include <tendril/core/cuda/layout.cuh>
#include <tendril/core/cuda/runtime.cuh>

namespace tendril::ops::cuda {
namespace {

using namespace tendril::cuda;

constexpr int kThreads = 256;

// body(i) for the elements of this thread.
template <class Body>
__device__ void for_elements(int64_t count, Body body) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
#pragma unroll 4
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step)
    body(i);
}

template <class Loss, class T>
__global__ void __launch_bounds__(kThreads)
    loss_kernel(const T* x, const T* target, compute_t<T>* losses, int64_t count) {
  using C = compute_t<T>;
  for_elements(count, [&](int64_t i) {
    losses[i] = Loss::value(static_cast<C>(x[i]), static_cast<C>(target[i]));
  });
}

// One partial sum per block.
template <class Loss, class T>
__global__ void __launch_bounds__(kThreads)
    partial_loss_kernel(const T* x, const T* target, double* partials, int64_t count) {
  using C = compute_t<T>;
  __shared__ double shared[kWarp];
  double sum = 0.0;
  for_elements(count, [&](int64_t i) {
    sum += static_cast<double>(Loss::value(static_cast<C>(x[i]), static_cast<C>(target[i])));
  });
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

template <class C>
__global__ void __launch_bounds__(kThreads)
    total_loss_kernel(const double* partials, int64_t count, double divisor, C* out) {
  __shared__ double shared[kWarp];
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partials[i];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *out = static_cast<C>(sum / divisor);
}

template <class Loss>
struct ByX {
  template <class C>
  __device__ static C derivative(C x, C t) {
    return Loss::by_x(x, t);
  }
};
template <class Loss>
struct ByTarget {
  template <class C>
  __device__ static C derivative(C x, C t) {
    return Loss::by_target(x, t);
  }
};

// dx_i = scale g_i derivative(x_i, t_i); g has one number per element (g_step 1), or one for all
// (0).
template <class By, class T>
__global__ void __launch_bounds__(kThreads)
    loss_gradient_kernel(Source g, int64_t g_step, compute_t<T> scale, const T* x, const T* target,
                         T* dx, int64_t count) {
  using C = compute_t<T>;
  for_elements(count, [&](int64_t i) {
    const C slope = By::derivative(static_cast<C>(x[i]), static_cast<C>(target[i]));
    dx[i] = static_cast<T>(scale * g.load<C>(i * g_step) * slope);
  });
}

unsigned blocks_of(const Tensor& x, int64_t each) {
  return blocks_for(x.numel(), each, 8 * properties(x.device()).multiprocessors);
}

// x and target are dense.
template <class By, class T>
Tensor gradient(const Tensor& g, double scale, const Tensor& x, const Tensor& target) {
  const Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (dx.numel() == 0) return dx;
  loss_gradient_kernel<By, T><<<blocks_of(x, kThreads), kThreads, 0, stream(x.device())>>>(
      Source(g, g.shape()), g.rank() == x.rank() ? 1 : 0, static_cast<compute_t<T>>(scale),
      x.data<T>(), target.data<T>(), dx.data<T>(), x.numel());
  TENDRIL_CUDA_CHECK_LAUNCH("loss_backward");
  return dx;
}

}  // namespace

template <class Loss>
Tensor pointwise_loss(const Tensor& x, const Tensor& target, Reduction reduction) {
  const Tensor xs = contiguous(x), ts = contiguous(target);
  const bool none = reduction == Reduction::none;
  const Tensor result =
      Tensor::empty(none ? x.shape() : Shape{}, accumulate_dtype(x.dtype()), x.device());
  const int64_t count = x.numel();
  if (none && count == 0) return result;
  const cudaStream_t on = stream(x.device());
  visit_floating("loss", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    C* out = result.data<C>();
    if (none) {
      loss_kernel<Loss>
          <<<blocks_of(x, kThreads), kThreads, 0, on>>>(xs.data<T>(), ts.data<T>(), out, count);
      return;
    }
    const unsigned blocks = blocks_of(x, 4 * kThreads);
    const Tensor partials = Tensor::empty({static_cast<int64_t>(blocks)}, f64, x.device());
    partial_loss_kernel<Loss>
        <<<blocks, kThreads, 0, on>>>(xs.data<T>(), ts.data<T>(), partials.data<double>(), count);
    const double divisor = reduction == Reduction::mean ? static_cast<double>(count) : 1.0;
    total_loss_kernel<<<1, kThreads, 0, on>>>(partials.data<double>(), blocks, divisor, out);
  });
  TENDRIL_CUDA_CHECK_LAUNCH("loss");
  return result;
}

template <class Loss>
PairGradients pointwise_loss_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                                      Reduction reduction, Wanted wanted) {
  const Tensor xs = contiguous(x), ts = contiguous(target);
  const double scale = reduction == Reduction::mean ? 1.0 / static_cast<double>(x.numel()) : 1.0;
  PairGradients gradients;
  visit_floating("loss_backward", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (wanted.x) gradients.x = gradient<ByX<Loss>, T>(g, scale, xs, ts);
    if (wanted.target) gradients.target = gradient<ByTarget<Loss>, T>(g, scale, xs, ts);
  });
  return gradients;
}

template Tensor pointwise_loss<SquaredError>(const Tensor&, const Tensor&, Reduction);
template Tensor pointwise_loss<AbsoluteError>(const Tensor&, const Tensor&, Reduction);
template Tensor pointwise_loss<LogisticLoss>(const Tensor&, const Tensor&, Reduction);
template Tensor pointwise_loss<Divergence>(const Tensor&, const Tensor&, Reduction);
template Tensor pointwise_loss<LogDivergence>(const Tensor&, const Tensor&, Reduction);

template PairGradients pointwise_loss_backward<SquaredError>(const Tensor&, const Tensor&,
                                                             const Tensor&, Reduction, Wanted);
template PairGradients pointwise_loss_backward<AbsoluteError>(const Tensor&, const Tensor&,
                                                              const Tensor&, Reduction, Wanted);
template PairGradients pointwise_loss_backward<LogisticLoss>(const Tensor&, const Tensor&,
                                                             const Tensor&, Reduction, Wanted);
template PairGradients pointwise_loss_backward<Divergence>(const Tensor&, const Tensor&,
                                                           const Tensor&, Reduction, Wanted);
template PairGradients pointwise_loss_backward<LogDivergence>(const Tensor&, const Tensor&,
                                                              const Tensor&, Reduction, Wanted);

}  // namespace tendril::ops::cuda
