// The forward passes of layer_norm, rms_norm and add_layer_norm.
#include <tendril/core/ops/norm_layers.h>

#include <type_traits>

#include <tendril/core/ops/norm_layers.cuh>

namespace tendril::ops::cuda {
namespace {

// Rows of n elements: x, residual (null: none), their sum (only with a residual) and y in T, but
// float rows may have a 16-bit residual; mean (null for rms_norm) and rstd in T's compute type.
struct NormRows {
  const void *x, *residual;
  void *sum, *y, *mean, *rstd;
  Channels weight, bias;
  int64_t rows;
  int n;
  double eps;
  DType residual_dtype;
  bool aligned;  // every row begins at 16 bytes

  __device__ bool centred() const { return mean != nullptr; }
};

template <class C>
__device__ C inverse_root(C squares, int n, double eps) {
  return C(1) / sqrt(squares / static_cast<C>(n) + static_cast<C>(eps));
}

// body(the residual's elements) with their type.
template <class T, class Body>
__device__ void visit_residual(const NormRows& p, Body body) {
  if constexpr (std::is_same_v<T, float>) {
    if (p.residual_dtype == DType::bf16) return body(static_cast<const bfloat16*>(p.residual));
    if (p.residual_dtype == DType::f16) return body(static_cast<const float16*>(p.residual));
  }
  body(static_cast<const T*>(p.residual));
}

// The first passes over a row in registers; `lane` counts the threads of the row.
template <class T, int kPieces>
struct RowInRegisters {
  using C = compute_t<T>;
  static constexpr int kSize = kVector<T>;
  Vector<C, kSize> x[kPieces];

  // x, or x + residual rounded to T, which is also stored.
  __device__ void read(const NormRows& p, int64_t row, int lane, int width) {
    const T* from = static_cast<const T*>(p.x) + row * p.n;
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
      x[i] = load_columns<C, kSize>(from, (lane + i * width) * kSize, p.n, p.aligned);
    if (!p.residual) return;
    T* sum = static_cast<T*>(p.sum) + row * p.n;
    visit_residual<T>(p, [&](const auto* residual) {
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        const int first = (lane + i * width) * kSize;
        const auto other = load_columns<C, kSize>(residual + row * p.n, first, p.n, p.aligned);
#pragma unroll
        for (int k = 0; k < kSize; ++k)
          x[i].v[k] = static_cast<C>(static_cast<T>(x[i].v[k] + other.v[k]));
        store_columns(sum, first, p.n, p.aligned, x[i]);
      }
    });
  }

  __device__ C sum() const {
    C total = 0;
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
#pragma unroll
      for (int k = 0; k < kSize; ++k) total += x[i].v[k];
    return total;
  }

  __device__ C squares(C mean, int lane, int width, int n) const {
    C total = 0;
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
      for_columns<kSize>((lane + i * width) * kSize, n, [&](int k) {
        const C deviation = x[i].v[k] - mean;
        total += deviation * deviation;
      });
    return total;
  }
};

template <class T, int kPieces, bool kWarpRow, bool kAligned>
__global__ void __launch_bounds__(kMostRowThreads) norm_kernel(NormRows p) {
  p.aligned = kAligned;
  using C = compute_t<T>;
  constexpr int kSize = kVector<T>;
  __shared__ C shared[kWarp];
  const int lane = kWarpRow ? threadIdx.x % kWarp : threadIdx.x;
  const int width = kWarpRow ? kWarp : blockDim.x;
  const int64_t row =
      kWarpRow ? static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarp) + threadIdx.x / kWarp
               : blockIdx.x;
  if (row >= p.rows) return;  // a whole warp

  RowInRegisters<T, kPieces> in;
  in.read(p, row, lane, width);
  C mean = 0;
  if (p.centred()) mean = row_sum<kWarpRow>(in.sum(), shared) / static_cast<C>(p.n);
  // A second pass: E[x^2] - E[x]^2 would lose the digits of a small variance.
  const C squares = row_sum<kWarpRow>(in.squares(mean, lane, width, p.n), shared);
  const C rstd = inverse_root(squares, p.n, p.eps);
  if (lane == 0) {
    if (p.centred()) static_cast<C*>(p.mean)[row] = mean;
    static_cast<C*>(p.rstd)[row] = rstd;
  }
  T* y = static_cast<T*>(p.y) + row * p.n;
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int first = (lane + i * width) * kSize;
    const auto weight = channels<T>(p.weight, first, p.n, p.aligned, C(1));
    const auto bias = channels<T>(p.bias, first, p.n, p.aligned, C(0));
    auto values = in.x[i];
#pragma unroll
    for (int k = 0; k < kSize; ++k)
      values.v[k] = (values.v[k] - mean) * rstd * weight.v[k] + bias.v[k];
    store_columns(y, first, p.n, p.aligned, values);
  }
}

// Any T and n.
template <class T>
__global__ void __launch_bounds__(kMostRowThreads) general_norm_kernel(NormRows p) {
  using C = compute_t<T>;
  __shared__ C shared[kWarp];
  const int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(p.x) + row * p.n;
  if (p.residual) {
    T* sum = static_cast<T*>(p.sum) + row * p.n;
    visit_residual<T>(p, [&](const auto* residual) {
      const auto* added = residual + row * p.n;
      for (int i = threadIdx.x; i < p.n; i += blockDim.x)
        sum[i] = static_cast<T>(static_cast<C>(x[i]) + static_cast<C>(added[i]));
    });
    x = sum;  // each thread reads below what it has written itself
  }
  C mean = 0;
  if (p.centred()) {
    C total = 0;
    for (int i = threadIdx.x; i < p.n; i += blockDim.x) total += static_cast<C>(x[i]);
    mean = block_sum(total, shared) / static_cast<C>(p.n);
  }
  C squares = 0;
  for (int i = threadIdx.x; i < p.n; i += blockDim.x) {
    const C deviation = static_cast<C>(x[i]) - mean;
    squares += deviation * deviation;
  }
  const C rstd = inverse_root(block_sum(squares, shared), p.n, p.eps);
  if (threadIdx.x == 0) {
    if (p.centred()) static_cast<C*>(p.mean)[row] = mean;
    static_cast<C*>(p.rstd)[row] = rstd;
  }
  T* y = static_cast<T*>(p.y) + row * p.n;
  for (int i = threadIdx.x; i < p.n; i += blockDim.x)
    y[i] = static_cast<T>((static_cast<C>(x[i]) - mean) * rstd * channel<T>(p.weight, i, C(1)) +
                          channel<T>(p.bias, i, C(0)));
}

template <class T>
bool launch_fast(NormRows p, cudaStream_t on) {
  p.aligned = rows_are_aligned<T>(p.n, static_cast<const T*>(p.x), p.residual, p.sum, p.y);
  return visit_row_shape<T>(p.n, [&](auto shape) {
    using S = decltype(shape);
    const int64_t rows_per_block = S::warp_row ? kWarpsPerBlock : 1;
    const auto kernel = p.aligned ? norm_kernel<T, S::pieces, S::warp_row, true>
                                  : norm_kernel<T, S::pieces, S::warp_row, false>;
    kernel<<<blocks_for(p.rows, rows_per_block), shape.threads, 0, on>>>(p);
  });
}

// `mean` undefined: rms_norm. `residual` and `sum` undefined: nothing is added.
void normalise(const char* op, const Tensor& x, const Tensor& residual, const Tensor& weight,
               const Tensor& bias, double eps, const Tensor& sum, const Tensor& y,
               const Tensor& mean, const Tensor& rstd) {
  if (rstd.numel() == 0) return;
  const Tensor in = contiguous(x);
  Tensor added;
  if (residual.defined()) {
    const bool narrow = x.dtype() == f32 && accumulate_dtype(residual.dtype()) == f32;
    added = contiguous(narrow ? residual : cast(residual, x.dtype()));
  }
  const auto pointer = [](const Tensor& t) { return t.defined() ? t.raw_data() : nullptr; };
  Tensor weights, biases;
  NormRows p{pointer(in),
             pointer(added),
             pointer(sum),
             pointer(y),
             pointer(mean),
             pointer(rstd),
             channels_of(weight, x.dtype(), weights),
             channels_of(bias, x.dtype(), biases),
             rstd.numel(),
             row_length(op, x),
             eps,
             added.defined() ? added.dtype() : x.dtype(),
             false};
  const cudaStream_t on = stream(x.device());
  bool done = false;
  visit_fast_type(x.dtype(),
                  [&](auto tag) { done = launch_fast<typename decltype(tag)::type>(p, on); });
  if (!done)
    visit_floating(op, x.dtype(), [&](auto tag) {
      general_norm_kernel<typename decltype(tag)::type>
          <<<static_cast<unsigned>(p.rows), kMostRowThreads, 0, on>>>(p);
    });
  TENDRIL_CUDA_CHECK_LAUNCH(op);
}

}  // namespace

LayerNormResult layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                           int64_t rows) {
  const DType statistics = accumulate_dtype(x.dtype());
  const LayerNormResult result{Tensor::empty(x.shape(), x.dtype(), x.device()),
                               Tensor::empty({rows}, statistics, x.device()),
                               Tensor::empty({rows}, statistics, x.device())};
  normalise("layer_norm", x, {}, weight, bias, eps, {}, result.y, result.mean, result.rstd);
  return result;
}

RmsNormResult rms_norm(const Tensor& x, const Tensor& weight, double eps, int64_t rows) {
  const RmsNormResult result{Tensor::empty(x.shape(), x.dtype(), x.device()),
                             Tensor::empty({rows}, accumulate_dtype(x.dtype()), x.device())};
  normalise("rms_norm", x, {}, weight, {}, eps, {}, result.y, {}, result.rstd);
  return result;
}

AddLayerNormResult add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                  const Tensor& bias, double eps, int64_t rows) {
  const DType statistics = accumulate_dtype(x.dtype());
  const AddLayerNormResult result{Tensor::empty(x.shape(), x.dtype(), x.device()),
                                  Tensor::empty(x.shape(), x.dtype(), x.device()),
                                  Tensor::empty({rows}, statistics, x.device()),
                                  Tensor::empty({rows}, statistics, x.device())};
  normalise("add_layer_norm", x, residual, weight, bias, eps, result.sum, result.y, result.mean,
            result.rstd);
  return result;
}

}  // namespace tendril::ops::cuda
