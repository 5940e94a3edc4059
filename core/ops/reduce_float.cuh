// What the floating-point reductions share on the GPU: accurate sums and the elementwise kernel of
// their backward passes. Internal; the twin of reduce_float.h.
#pragma once

#include <cmath>

#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/reduce_kernels.h>
#include <tendril/core/ops/reduce_engine.cuh>

namespace tendril::ops::cuda {

struct NoContext {};

/// Integers and bools are reduced as i64.
inline Tensor wide(const Tensor& x) { return is_floating(x.dtype()) ? raw(x) : cast(x, i64); }

/// Calls body(TypeTag) with the type of a tensor that wide() returned.
template <class Body>
void visit_wide(const char* op, DType dtype, Body body) {
  if (dtype == i64)
    body(TypeTag<int64_t>{});
  else
    visit_floating(op, dtype, body);
}

/// Sums of x, |x| or (x - mean)^2 and what is made of them. A few neighbours are added in T's
/// compute type, their sum in double: few roundings to float whatever the number of values is.
template <class T>
struct FloatSum {
  using Element = T;
  using Partial = double;
  using C = compute_t<T>;
  using Term = ::tendril::cpu::Term;

  T* out = nullptr;  // one of the two
  double* exact = nullptr;
  Term term = Term::value;
  double divisor = 1.0;
  bool root = false;
  const double* mean = nullptr;  // one per result, or null
  int64_t count = 0;             // values per result; only for the mean's rounding

  __device__ double identity() const { return 0.0; }
  // The mean that is subtracted is rounded to the compute type; write() takes that out again.
  __device__ C context(int64_t result) const { return mean ? static_cast<C>(mean[result]) : C(0); }
  template <int N>
  __device__ void add(double& sum, const Vector<T, N>& values, C shift, int64_t, int64_t) const {
    C terms[N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const C x = static_cast<C>(values.v[k]) - shift;
      terms[k] = term == Term::value ? x : term == Term::absolute ? fabs(x) : x * x;
    }
#pragma unroll
    for (int half = N / 2; half > 0; half /= 2)
#pragma unroll
      for (int k = 0; k < half; ++k) terms[k] += terms[k + half];
    sum += static_cast<double>(terms[0]);
  }
  __device__ void combine(double& a, double b) const { a += b; }
  __device__ void write(int64_t result, double total) const {
    if (mean) {  // sum (x - mean)^2 = sum (x - shift)^2 - n (mean - shift)^2
      const double rounding = mean[result] - static_cast<double>(static_cast<C>(mean[result]));
      total -= static_cast<double>(count) * rounding * rounding;
      if (total < 0) total = 0;
    }
    total /= divisor;
    if (root) total = sqrt(total);
    if (exact)
      exact[result] = total;
    else
      out[result] = convert<T>(total);
  }
};

/// out[i] = f(a_i, b_i, c_i), computed in C; the operands have any layout.
template <class T, class C, class Function>
__global__ void __launch_bounds__(kReduceThreads)
    map_kernel(Source a, Source b, Source c, T* out, int64_t count, Function f) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step)
    out[i] = convert<T>(f(a.load<C>(i), b.load<C>(i), c.load<C>(i)));
}

/// A tensor shaped like a result, with x's shape: the reduced axes repeat it.
inline Tensor spread(const Tensor& result, const Tensor& x, const Shape& axes) {
  return expand_result("reduce", result, x.shape(), axes, result.rank() == x.rank());
}

/// The operands as they are read at the positions of `shape`; an undefined tensor reads as 0.
inline Source source_of(const Tensor& x, const Shape& shape) {
  return x.defined() ? Source(x, shape) : Source(0.0);
}

/// A dense tensor of the shape and dtype of a.
template <class T, class C, class Function>
Tensor map(const char* op, const Tensor& a, const Tensor& b, const Tensor& c, Function f) {
  const Tensor out = Tensor::empty(a.shape(), a.dtype(), a.device());
  if (out.numel() == 0) return out;
  const unsigned blocks =
      blocks_for(out.numel(), kReduceThreads, 16 * properties(a.device()).multiprocessors);
  map_kernel<T, C><<<blocks, kReduceThreads, 0, stream(a.device())>>>(
      Source(a, a.shape()), source_of(b, a.shape()), source_of(c, a.shape()), out.data<T>(),
      out.numel(), f);
  TENDRIL_CUDA_CHECK_LAUNCH(op);
  return out;
}

}  // namespace tendril::ops::cuda
