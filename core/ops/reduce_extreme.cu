// max, min, argmax, argmin, any, all.
#include <tendril/core/ops/reduce_extreme.cuh>

namespace tendril::ops::cuda {
namespace {

using ::tendril::cpu::Extreme;

// any: some value is not 0. all: no value is 0. NaN is not 0.
template <class T>
struct Truth {
  using Element = T;
  using Partial = int;
  bool all;
  bool* out;

  __device__ int identity() const { return all; }
  __device__ NoContext context(int64_t) const { return {}; }
  template <int N>
  __device__ void add(int& found, const Vector<T, N>& values, NoContext, int64_t, int64_t) const {
#pragma unroll
    for (int k = 0; k < N; ++k)
      combine(found, static_cast<compute_t<T>>(values.v[k]) != compute_t<T>(0));
  }
  __device__ void combine(int& a, int b) const { a = all ? a & b : a | b; }
  __device__ void write(int64_t result, int found) const { out[result] = found != 0; }
};

// g at the places of the extremes; `places` walks over dx, `from` over x.
template <class T>
__global__ void __launch_bounds__(kReduceThreads)
    place_kernel(Source g, const int64_t* best, const T* x, Layout from_kept, Layout from_reduced,
                 T* dx, Layout kept, Layout reduced, int64_t results, bool with_sign) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= results || best[i] < 0) return;
  auto gradient = g.load<compute_t<T>>(i);
  if (with_sign) {
    const auto value =
        static_cast<compute_t<T>>(x[from_kept.offset(i) + from_reduced.offset(best[i])]);
    gradient *= static_cast<compute_t<T>>((value > 0) - (value < 0));
  }
  dx[kept.offset(i) + reduced.offset(best[i])] = static_cast<T>(gradient);
}

}  // namespace

Tensor extreme(const Tensor& x, const Shape& axes, bool keepdim, Extreme kind) {
  const Tensor in = wide(x);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), in.dtype(), x.device());
  visit_wide("max", in.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    reduce("max", in, ReduceLayout(in, axes, /*any_order=*/true),
           ExtremeOf<T>{{kind}, y.data<T>()});
  });
  return cast(y, x.dtype());
}

Tensor extreme_index(const Tensor& x, const Shape& axes, bool keepdim, Extreme kind) {
  const Tensor in = wide(x);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), i64, x.device());
  visit_wide("argmax", in.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    reduce("argmax", in, ReduceLayout(in, axes, /*any_order=*/false),
           ExtremeIndex<T>{{kind}, y.data<int64_t>()});
  });
  return y;
}

Tensor extreme_backward(const Tensor& g, const Tensor& x, const Shape& axes, Extreme kind) {
  const Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (dx.numel() == 0) return dx;
  const cudaStream_t on = stream(x.device());
  TENDRIL_CUDA_CHECK(cudaMemsetAsync(dx.raw_data(), 0, static_cast<size_t>(dx.nbytes()), on));
  const Tensor best = extreme_index(x, axes, /*keepdim=*/false, kind);
  const ReduceLayout from(x, axes, /*any_order=*/false), to(dx, axes, /*any_order=*/false);
  visit_floating("max", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    place_kernel<T><<<blocks_for(from.results, kReduceThreads), kReduceThreads, 0, on>>>(
        Source(g, g.shape()), best.data<int64_t>(), x.data<T>(),
        Layout(from.kept, from.kept_strides), Layout(from.reduced, from.reduced_strides),
        dx.data<T>(), Layout(to.kept, to.kept_strides), Layout(to.reduced, to.reduced_strides),
        from.results, kind == Extreme::max_absolute);
  });
  TENDRIL_CUDA_CHECK_LAUNCH("max");
  return dx;
}

Tensor truth(const Tensor& x, const Shape& axes, bool keepdim, bool all) {
  const Tensor in = wide(x);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), bool_, x.device());
  visit_wide("any", in.dtype(), [&](auto tag) {
    reduce("any", in, ReduceLayout(in, axes, /*any_order=*/true),
           Truth<typename decltype(tag)::type>{all, y.data<bool>()});
  });
  return y;
}

}  // namespace tendril::ops::cuda
