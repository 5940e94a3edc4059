// The losses against class indices on the GPU. Targets are checked and counted there.
#include <tendril/core/ops/loss.h>

#include <tendril/core/ops/class_targets.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/cuda/class_loss.cuh>
#include <tendril/core/cuda/layout.cuh>

namespace tendril::ops::cuda {
namespace {

using namespace tendril::cuda;

constexpr int kThreads = 256;

// The gradient of a loss as kernels read it: f32 or f64, dense.
Tensor readable(const Tensor& g) {
  return contiguous(g.dtype() == f32 || g.dtype() == f64 ? g : cast(g, f32));
}

// How many rows the mean is over; undefined for the other reductions.
Tensor divisor(const Tensor& target, int64_t ignore_index, Reduction reduction) {
  return reduction == Reduction::mean ? count_targets(target, ignore_index) : Tensor();
}

ClassLoss walk_over(const char* op, const Tensor& logits, const Tensor& target,
                    const CrossEntropyOptions& options) {
  ClassLoss rows{.op = op};
  rows.rows = target.numel();
  rows.classes = rows.logits_stride = logits.size(-1);
  rows.logits = logits.raw_data();
  rows.dtype = logits.dtype();
  rows.targets = target.raw_data();
  rows.target_dtype = target.dtype();
  rows.ignore_index = options.ignore_index;
  rows.label_smoothing = options.label_smoothing;
  return rows;
}

// A thread per row. The class of its target, or -1 where the row does not count.
template <class Index>
__device__ int64_t class_of(HostText op, const Index* targets, int64_t row, int64_t classes,
                            int64_t ignore_index, IndexFault* fault) {
  const int64_t target = targets[row];
  if (target == ignore_index) return -1;
  if (target >= 0 && target < classes) return target;
  fault->report(op, target, classes);
  return -1;
}

struct NllRows {
  HostText op;
  int64_t rows, classes, ignore_index;
  IndexFault* fault;
};

// losses_n = -x_ny
template <class Index>
__global__ void __launch_bounds__(kThreads)
    nll_kernel(NllRows p, Source x, const Index* targets, double* losses) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= p.rows) return;
  const int64_t own = class_of(p.op, targets, row, p.classes, p.ignore_index, p.fault);
  losses[row] = own < 0 ? 0.0 : -x.load<double>(row * p.classes + own);
}

// dx_ny = -g_n / count; g has one number per row or one for all, count may be null
template <class T, class Index>
__global__ void __launch_bounds__(kThreads)
    nll_gradient_kernel(NllRows p, Source g, const Index* targets, const int64_t* count, T* dx) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= p.rows) return;
  const int64_t own = class_of(p.op, targets, row, p.classes, p.ignore_index, p.fault);
  if (own < 0) return;
  double gradient = g.load<double>(row);
  if (count && *count > 1) gradient /= static_cast<double>(*count);
  dx[row * p.classes + own] = static_cast<T>(static_cast<compute_t<T>>(-gradient));
}

}  // namespace

CrossEntropyResult cross_entropy(const Tensor& logits, const Tensor& target,
                                 const CrossEntropyOptions& options) {
  const Device device = logits.device();
  const Tensor x = contiguous(logits), y = contiguous(target);
  const Tensor losses = Tensor::empty({y.numel()}, f64, device);
  const Tensor logsumexp = Tensor::empty({y.numel()}, f64, device);
  ClassLoss rows = walk_over("cross_entropy", x, y, options);
  rows.losses = losses.data<double>();
  rows.logsumexp = logsumexp.data<double>();
  class_loss(rows, device);
  return {reduce_losses(losses, divisor(y, options.ignore_index, options.reduction), target.shape(),
                        accumulate_dtype(logits.dtype()), options.reduction),
          logsumexp};
}

// Finds the logsumexp anew: the logits must be read in any case, and the target's exponential stays
// apart from the others.
Tensor cross_entropy_backward(const Tensor& g, const Tensor& logits, const Tensor& target,
                              const Tensor&, const CrossEntropyOptions& options) {
  check_loss_gradient("cross_entropy_backward", g, target.shape(), options.reduction);
  const Tensor x = contiguous(logits), y = contiguous(target), weights = readable(g);
  const Tensor dlogits = Tensor::empty(x.shape(), x.dtype(), x.device());
  const Tensor count = divisor(y, options.ignore_index, options.reduction);
  ClassLoss rows = walk_over("cross_entropy_backward", x, y, options);
  rows.gradients = dlogits.raw_data();
  rows.gradients_stride = rows.classes;
  rows.count = count.defined() ? count.data<int64_t>() : nullptr;
  rows.g = weights.raw_data();
  rows.g_dtype = weights.dtype();
  rows.g_stride = options.reduction == Reduction::none ? 1 : 0;
  class_loss(rows, x.device());
  return dlogits;
}

Tensor nll_loss(const Tensor& x, const Tensor& target, int64_t ignore_index, Reduction reduction) {
  const Tensor y = contiguous(target);
  const Tensor losses = Tensor::empty({y.numel()}, f64, x.device());
  const cudaStream_t on = stream(x.device());
  const NllRows p{"nll_loss", y.numel(), x.size(-1), ignore_index, index_fault(x.device())};
  if (p.rows > 0)
    visit_index(p.op.text, y.dtype(), [&](auto tag) {
      nll_kernel<<<blocks_for(p.rows, kThreads), kThreads, 0, on>>>(
          p, Source(x, x.shape()), y.data<typename decltype(tag)::type>(), losses.data<double>());
    });
  TENDRIL_CUDA_CHECK_LAUNCH(p.op.text);
  return reduce_losses(losses, divisor(y, ignore_index, reduction), target.shape(),
                       accumulate_dtype(x.dtype()), reduction);
}

Tensor nll_loss_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                         int64_t ignore_index, Reduction reduction) {
  check_loss_gradient("nll_loss_backward", g, target.shape(), reduction);
  const Tensor y = contiguous(target);
  const Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (dx.numel() == 0) return dx;
  const cudaStream_t on = stream(x.device());
  TENDRIL_CUDA_CHECK(cudaMemsetAsync(dx.raw_data(), 0, static_cast<size_t>(dx.nbytes()), on));
  const Tensor count = divisor(y, ignore_index, reduction);
  const NllRows p{"nll_loss_backward", y.numel(), x.size(-1), ignore_index,
                  index_fault(x.device())};
  visit_floating(p.op.text, x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    visit_index(p.op.text, y.dtype(), [&](auto index) {
      nll_gradient_kernel<<<blocks_for(p.rows, kThreads), kThreads, 0, on>>>(
          p, Source(g, target.shape()), y.data<typename decltype(index)::type>(),
          count.defined() ? count.data<int64_t>() : nullptr, dx.data<T>());
    });
  });
  TENDRIL_CUDA_CHECK_LAUNCH(p.op.text);
  return dx;
}

}  // namespace tendril::ops::cuda
