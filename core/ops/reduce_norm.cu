// Norms and logsumexp.
#include <tendril/core/ops/reduce.h>

#include <limits>

#include <tendril/core/cpu/vecmath.h>
#include <tendril/core/ops/reduce_extreme.cuh>

namespace tendril::ops::cuda {
namespace {

using ::tendril::cpu::Extreme;
using ::tendril::cpu::Term;

// (sum of |x|^p)^(1/p)
template <class T>
struct PowerSum {
  using Element = T;
  using Partial = double;
  T* out;
  double p;

  __device__ double identity() const { return 0.0; }
  __device__ NoContext context(int64_t) const { return {}; }
  template <int N>
  __device__ void add(double& sum, const Vector<T, N>& values, NoContext, int64_t, int64_t) const {
#pragma unroll 1
    for (int k = 0; k < N; ++k) sum += pow(fabs(static_cast<double>(values.v[k])), p);
  }
  __device__ void combine(double& a, double b) const { a += b; }
  __device__ void write(int64_t result, double total) const {
    out[result] = convert<T>(pow(total, 1.0 / p));
  }
};

// log sum exp as a pair: sum exp(x) = exp(max) scaled. NaN lives in `scaled` alone.
template <class T>
struct LogSumExp {
  using Element = T;
  using C = compute_t<T>;
  struct Partial {
    C max;
    double scaled;
  };
  T* out;         // one of the two
  double* exact;  // (results); 0 where every value is -inf and has no influence

  __device__ Partial identity() const { return {-INFINITY, 0.0}; }
  __device__ NoContext context(int64_t) const { return {}; }
  // exp(x - max), also where both are infinite.
  __device__ static C share(C x, C max) {
    if (x == -INFINITY) return C(0);
    return x == max ? C(1) : vec::exp(x - max);
  }
  template <int N>
  __device__ void add(Partial& sum, const Vector<T, N>& values, NoContext, int64_t, int64_t) const {
    C max = sum.max;
#pragma unroll
    for (int k = 0; k < N; ++k) max = fmax(max, static_cast<C>(values.v[k]));
    C added = 0;
#pragma unroll
    for (int k = 0; k < N; ++k) added += share(static_cast<C>(values.v[k]), max);
    combine(sum, {max, static_cast<double>(added)});
  }
  __device__ void combine(Partial& a, const Partial& b) const {
    const C max = fmax(a.max, b.max);
    a = {max, scaled_to(a, max) + scaled_to(b, max)};
  }
  __device__ static double scaled_to(const Partial& sum, C max) {
    if (sum.scaled == 0.0 || sum.max == max) return sum.scaled;
    return sum.scaled * static_cast<double>(vec::exp(sum.max - max));
  }
  __device__ void write(int64_t result, const Partial& sum) const {
    const double value = static_cast<double>(sum.max) + log(sum.scaled);
    if (exact)
      exact[result] = sum.scaled == 0.0 ? 0.0 : value;
    else
      out[result] = convert<T>(value);
  }
};

struct ByAbsolute {  // p = 1
  __device__ double operator()(double x, double g, double) const {
    return g * static_cast<double>((x > 0) - (x < 0));
  }
};
struct BySquare {  // p = 2
  __device__ double operator()(double x, double g, double root) const {
    return root == 0.0 ? 0.0 : g / root * x;
  }
};
struct ByPower {
  double p;
  __device__ double operator()(double x, double g, double length) const {
    if (x == 0.0) return 0.0;
    return g * static_cast<double>((x > 0) - (x < 0)) * pow(fabs(x) / length, p - 1.0);
  }
};
struct BySoftmax {
  __device__ double operator()(double x, double g, double logsumexp) const {
    return g * exp(x - logsumexp);
  }
};

}  // namespace

Tensor norm(const Tensor& x, double p, const Shape& axes, bool keepdim) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), x.dtype(), x.device());
  visit_floating("norm", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* out = y.data<T>();
    if (p == std::numeric_limits<double>::infinity())
      return reduce("norm", x, layout, ExtremeOf<T>{{Extreme::max_absolute}, out});
    if (p != 1.0 && p != 2.0) return reduce("norm", x, layout, PowerSum<T>{out, p});
    FloatSum<T> sum{.out = out, .term = p == 1.0 ? Term::absolute : Term::square};
    sum.root = p == 2.0;
    reduce("norm", x, layout, sum);
  });
  return y;
}

Tensor norm_backward(const Tensor& g, const Tensor& x, const Tensor& y, double p,
                     const Shape& axes) {
  const Tensor dy = spread(g, x, axes), length = spread(y, x, axes);
  return visit_floating("norm", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (p == 1.0) return map<T, double>("norm", x, dy, {}, ByAbsolute{});
    if (p == 2.0) return map<T, double>("norm", x, dy, length, BySquare{});
    return map<T, double>("norm", x, dy, length, ByPower{p});
  });
}

Tensor logsumexp(const Tensor& x, const Shape& axes, bool keepdim) {
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), x.dtype(), x.device());
  visit_floating("logsumexp", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    reduce("logsumexp", x, ReduceLayout(x, axes, /*any_order=*/true),
           LogSumExp<T>{y.data<T>(), nullptr});
  });
  return y;
}

Tensor logsumexp_backward(const Tensor& g, const Tensor& x, const Shape& axes) {
  const Tensor sums = Tensor::empty(reduced_shape(x.shape(), axes, true), f64, x.device());
  return visit_floating("logsumexp", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    reduce("logsumexp", x, ReduceLayout(x, axes, /*any_order=*/true),
           LogSumExp<T>{nullptr, sums.data<double>()});
    return map<T, double>("logsumexp", x, spread(g, x, axes), spread(sums, x, axes), BySoftmax{});
  });
}

}  // namespace tendril::ops::cuda
