// prod and cumsum.
#include <tendril/core/ops/reduce.h>

#include <type_traits>

#include <tendril/core/ops/reduce_float.cuh>

namespace tendril::ops::cuda {
namespace {

// Floating numbers accumulate in double; integers (all as i64) wrap around at 64 bits.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, int64_t>, uint64_t, double>;

template <class T>
__device__ T narrowed(Wide<T> value) {
  if constexpr (std::is_same_v<T, int64_t>)
    return static_cast<int64_t>(value);
  else
    return convert<T>(value);
}

template <class T>
struct Product {
  using Element = T;
  using Partial = Wide<T>;
  T* out;

  __device__ Partial identity() const { return 1; }
  __device__ NoContext context(int64_t) const { return {}; }
  template <int N>
  __device__ void add(Partial& product, const Vector<T, N>& values, NoContext, int64_t,
                      int64_t) const {
#pragma unroll
    for (int k = 0; k < N; ++k) product *= static_cast<Partial>(values.v[k]);
  }
  __device__ void combine(Partial& a, Partial b) const { a *= b; }
  __device__ void write(int64_t result, Partial total) const { out[result] = narrowed<T>(total); }
};

// A thread per result. The product of the others is the product of those before times the product
// of those after: correct with any number of zeros. `before` is (count, results).
template <class T>
__global__ void __launch_bounds__(kReduceThreads)
    product_gradient_kernel(Source g, const T* x, Layout kept, Layout reduced, T* dx,
                            Layout out_kept, Layout out_reduced, int64_t results, int64_t count,
                            double* before) {
  const int64_t result = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (result >= results) return;
  const T* values = x + kept.offset(result);
  T* out = dx + out_kept.offset(result);
  double product = g.load<double>(result);
  for (int64_t i = 0; i < count; ++i) {
    before[i * results + result] = product;
    product *= static_cast<double>(values[reduced.offset(i)]);
  }
  double after = 1.0;
  for (int64_t i = count - 1; i >= 0; --i) {
    out[out_reduced.offset(i)] = convert<T>(before[i * results + result] * after);
    after *= static_cast<double>(values[reduced.offset(i)]);
  }
}

// The lines of a scan: n numbers, `x_step` and `y_step` elements apart; negative steps run
// backwards.
struct Lines {
  Layout x, y;  // their first numbers
  int64_t count, n, x_step, y_step;
};

// y_i = x_0 + ... + x_i, a thread per line: for many lines.
template <class T>
__global__ void __launch_bounds__(kReduceThreads) scan_lines_kernel(const T* x, T* y, Lines lines) {
  const int64_t line = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (line >= lines.count) return;
  x += lines.x.offset(line), y += lines.y.offset(line);
  Wide<T> sum = 0;
  for (int64_t i = 0; i < lines.n; ++i) {
    sum += static_cast<Wide<T>>(x[i * lines.x_step]);
    y[i * lines.y_step] = narrowed<T>(sum);
  }
}

// The sums up to each thread of the block; `total` becomes that of all threads.
template <class W>
__device__ W block_scan(W value, W& total, W* shared) {
  constexpr int kWarps = kReduceThreads / kWarp;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const W before = __shfl_up_sync(0xFFFFFFFFu, value, offset);
    if (lane >= offset) value += before;
  }
  if (lane == kWarp - 1) shared[warp] = value;
  __syncthreads();
  W before = 0;
  total = 0;
  for (int i = 0; i < kWarps; ++i) {
    if (i < warp) before += shared[i];
    total += shared[i];
  }
  __syncthreads();
  return before + value;
}

// The same, a block per line: for long lines.
template <class T>
__global__ void __launch_bounds__(kReduceThreads) scan_line_kernel(const T* x, T* y, Lines lines) {
  using W = Wide<T>;
  __shared__ W shared[kReduceThreads / kWarp];
  x += lines.x.offset(blockIdx.x), y += lines.y.offset(blockIdx.x);
  W carried = 0;
  for (int64_t start = 0; start < lines.n; start += kReduceThreads) {
    const int64_t i = start + threadIdx.x;
    const bool inside = i < lines.n;
    W total;
    const W value = inside ? static_cast<W>(x[i * lines.x_step]) : W(0);
    const W sum = block_scan(value, total, shared);
    if (inside) y[i * lines.y_step] = narrowed<T>(carried + sum);
    carried += total;
  }
}

}  // namespace

Tensor prod(const Tensor& x, const Shape& axes, bool keepdim) {
  const Tensor in = wide(x);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), in.dtype(), x.device());
  visit_wide("prod", in.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    reduce("prod", in, ReduceLayout(in, axes, /*any_order=*/true), Product<T>{y.data<T>()});
  });
  return y;
}

Tensor prod_backward(const Tensor& g, const Tensor& x, const Shape& axes) {
  const Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() == 0) return dx;
  const ReduceLayout from(x, axes, /*any_order=*/false), to(dx, axes, /*any_order=*/false);
  const Tensor before = Tensor::empty({from.count, from.results}, f64, x.device());
  visit_floating("prod", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    product_gradient_kernel<T>
        <<<blocks_for(from.results, kReduceThreads), kReduceThreads, 0, stream(x.device())>>>(
            Source(g, g.shape()), x.data<T>(), Layout(from.kept, from.kept_strides),
            Layout(from.reduced, from.reduced_strides), dx.data<T>(),
            Layout(to.kept, to.kept_strides), Layout(to.reduced, to.reduced_strides), from.results,
            from.count, before.data<double>());
  });
  TENDRIL_CUDA_CHECK_LAUNCH("prod");
  return dx;
}

Tensor cumsum(const Tensor& x, int64_t axis, bool reverse) {
  const Tensor in = wide(x);
  const Tensor y = Tensor::empty(x.shape(), in.dtype(), x.device());
  if (x.numel() == 0) return y;
  Shape shape = x.shape(), x_strides = in.strides(), y_strides = y.strides();
  const int64_t n = shape[axis], x_step = x_strides[axis], y_step = y_strides[axis];
  for (Shape* dropped : {&shape, &x_strides, &y_strides}) dropped->erase(axis);
  const int64_t sign = reverse ? -1 : 1, count = shape.numel();
  const Lines lines{
      Layout(shape, x_strides), Layout(shape, y_strides), count, n, sign * x_step, sign * y_step};
  const bool by_block = n >= 2 * kReduceThreads || (n >= kWarp && count < 4096);
  const cudaStream_t on = stream(x.device());
  visit_wide("cumsum", in.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* from = in.data<T>() + (reverse ? (n - 1) * x_step : 0);
    T* to = y.data<T>() + (reverse ? (n - 1) * y_step : 0);
    if (by_block)
      scan_line_kernel<<<blocks_for(count, 1), kReduceThreads, 0, on>>>(from, to, lines);
    else
      scan_lines_kernel<<<blocks_for(count, kReduceThreads), kReduceThreads, 0, on>>>(from, to,
                                                                                      lines);
  });
  TENDRIL_CUDA_CHECK_LAUNCH("cumsum");
  return y;
}

}  // namespace tendril::ops::cuda
