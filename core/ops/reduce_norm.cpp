// Norms and logsumexp.
#include <cmath>
#include <limits>

#include <tendril/core/cpu/vecmath.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/reduce.h>
#include <tendril/core/ops/reduce_extreme.h>
#include <tendril/core/ops/reduce_float.h>

namespace tendril::ops {
namespace cpu {
namespace {

using ::tendril::cpu::Extreme;
using ::tendril::cpu::Term;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Sums of |x|^p.
template <class T>
struct PowerSum {
  using Partial = double;
  static constexpr bool has_columns = false;
  double p;

  double identity() const { return 0; }
  void combine(double& a, double b) const { a += b; }
  double row(const T* x, int64_t n, int64_t, int64_t) const {
    double total = 0;
    for (int64_t i = 0; i < n; ++i) total += std::pow(std::abs(static_cast<double>(x[i])), p);
    return total;
  }
};

// log sum exp as a pair: sum exp(x) = exp(max) * scaled, with `scaled` a number of moderate size.
struct ExpSum {
  double max, scaled;
};

template <class T>
struct LogSumExp {
  using Partial = ExpSum;
  static constexpr bool has_columns = false;

  ExpSum identity() const { return {-kInfinity, 0}; }
  ExpSum row(const T* x, int64_t n, int64_t, int64_t) const {
    using C = compute_t<T>;
    const C lowest = -std::numeric_limits<C>::infinity();
    const C max = TENDRIL_ISA_CALL(extreme_row<T>(x, n, Extreme::max, lowest));
    if (max == lowest) return identity();
    if (!std::isfinite(max)) return {static_cast<double>(max), 1};  // infinity or NaN is the result
    return {static_cast<double>(max), TENDRIL_ISA_CALL(exp_sum_row<T>(x, n, max))};
  }
  void combine(ExpSum& a, const ExpSum& b) const {
    if (std::isnan(a.max) || b.scaled == 0) return;
    if (b.max > a.max || std::isnan(b.max)) {  // also when a is of nothing
      const double factor = std::exp(a.max - b.max);
      a = {b.max, b.scaled + (a.scaled == 0 ? 0 : a.scaled * factor)};
    } else {
      a.scaled += b.scaled * (a.max == b.max ? 1 : std::exp(b.max - a.max));
    }
  }
};

template <class T>
Scratch<ExpSum> exp_sums(const Tensor& x, const ReduceLayout& layout) {
  const Scratch<ExpSum> sums(layout.results);
  reduce(x.data<T>(), layout, LogSumExp<T>{}, sums.data());
  return sums;
}

double log_of(const ExpSum& sum) { return sum.max + std::log(sum.scaled); }

}  // namespace

Tensor norm(const Tensor& x, double p, const Shape& axes, bool keepdim) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), x.dtype());
  visit_floating("norm", x.dtype(), [&]<class T>(TypeTag<T>) {
    if (p == kInfinity) {
      const Scratch<compute_t<T>> best(layout.results);
      reduce(x.data<T>(), layout, ExtremeOf<T>{Extreme::max_absolute}, best.data());
      return fill_results(y.data<T>(), y.numel(), [&](int64_t i) { return best[i]; });
    }
    const Scratch<double> sums(layout.results);
    if (p == 1 || p == 2)
      reduce(x.data<T>(), layout, FloatSum<T>{p == 1 ? Term::absolute : Term::square}, sums.data());
    else
      reduce(x.data<T>(), layout, PowerSum<T>{p}, sums.data());
    fill_results(y.data<T>(), y.numel(), [&](int64_t i) {
      return p == 1 ? sums[i] : p == 2 ? std::sqrt(sums[i]) : std::pow(sums[i], 1 / p);
    });
  });
  return y;
}

Tensor norm_backward(const Tensor& g, const Tensor& x, const Tensor& y, double p,
                     const Shape& axes) {
  const Tensor dx = Tensor::empty(x.shape(), x.dtype());
  visit_floating("norm", x.dtype(), [&]<class T>(TypeTag<T>) {
    const Scratch<double> dy = dense_values<T, double>(g), root = dense_values<T, double>(y);
    const double* a = dy.data();
    const double* b = root.data();
    const auto sign = [](double value) { return static_cast<double>((value > 0) - (value < 0)); };
    if (p == 1) {
      map_with_results<T>(x, axes, a, b, dx,
                          [&](double v, double scale, double) { return scale * sign(v); });
    } else if (p == 2) {
      fill_results(dy.data(), g.numel(),
                   [&](int64_t i) { return root[i] == 0 ? 0.0 : dy[i] / root[i]; });
      map_with_results<T>(x, axes, a, b, dx,
                          [](double v, double scale, double) { return scale * v; });
    } else {
      map_with_results<T>(x, axes, a, b, dx, [&](double v, double scale, double length) {
        return v == 0 ? 0.0 : scale * sign(v) * std::pow(std::abs(v) / length, p - 1);
      });
    }
  });
  return dx;
}

Tensor logsumexp(const Tensor& x, const Shape& axes, bool keepdim) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), x.dtype());
  visit_floating("logsumexp", x.dtype(), [&]<class T>(TypeTag<T>) {
    const Scratch<ExpSum> sums = exp_sums<T>(x, layout);
    fill_results(y.data<T>(), y.numel(), [&](int64_t i) { return log_of(sums[i]); });
  });
  return y;
}

Tensor logsumexp_backward(const Tensor& g, const Tensor& x, const Shape& axes) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor dx = Tensor::empty(x.shape(), x.dtype());
  visit_floating("logsumexp", x.dtype(), [&]<class T>(TypeTag<T>) {
    using C = compute_t<T>;
    const Scratch<ExpSum> sums = exp_sums<T>(x, layout);
    const Scratch<C> dy = dense_values<T, C>(g), log(layout.results);
    fill_results(log.data(), layout.results, [&](int64_t i) { return log_of(sums[i]); });
    for (int64_t i = 0; i < layout.results; ++i)
      if (sums[i].scaled == 0) dy[i] = log[i] = 0;  // every value is -inf and has no influence
    map_with_results<T>(x, axes, dy.data(), log.data(), dx,
                        [](C value, C scale, C total) { return scale * vec::exp(value - total); });
  });
  return dx;
}

}  // namespace cpu

namespace cuda {  // reduce_norm.cu; extreme_backward: reduce_extreme.cu
Tensor norm(const Tensor& x, double p, const Shape& axes, bool keepdim);
Tensor norm_backward(const Tensor& g, const Tensor& x, const Tensor& y, double p,
                     const Shape& axes);
Tensor logsumexp(const Tensor& x, const Shape& axes, bool keepdim);
Tensor logsumexp_backward(const Tensor& g, const Tensor& x, const Shape& axes);
Tensor extreme_backward(const Tensor& g, const Tensor& x, const Shape& axes,
                        ::tendril::cpu::Extreme kind);
}  // namespace cuda

namespace {
void require_power(double p) {
  TENDRIL_CHECK(p > 0, "[norm] p must be positive; got ", p, "; use 1, 2 or infinity");
}
}  // namespace

Tensor norm(const Tensor& x, double p, const Shape& axes, bool keepdim) {
  require_power(p);
  const Shape reduced = normalize_axes("norm", axes, x.rank());
  return TENDRIL_ON_DEVICE(x, norm(x, p, reduced, keepdim));
}

Tensor norm_backward(const Tensor& g, const Tensor& x, const Tensor& y, double p, const Shape& axes,
                     bool keepdim) {
  require_power(p);
  require_same_device("norm", g, x, y);
  const Shape reduced = normalize_axes("norm", axes, x.rank());
  require_result_gradient("norm", g, x, reduced, keepdim);
  require_result_gradient("norm", y, x, reduced, keepdim);
  if (p == std::numeric_limits<double>::infinity())
    return TENDRIL_ON_DEVICE(
        x, extreme_backward(g, x, reduced, ::tendril::cpu::Extreme::max_absolute));
  return TENDRIL_ON_DEVICE(x, norm_backward(g, x, y, p, reduced));
}

Tensor logsumexp(const Tensor& x, const Shape& axes, bool keepdim) {
  const Shape reduced = normalize_axes("logsumexp", axes, x.rank());
  return TENDRIL_ON_DEVICE(x, logsumexp(x, reduced, keepdim));
}

Tensor logsumexp_backward(const Tensor& g, const Tensor& x, const Shape& axes, bool keepdim) {
  require_same_device("logsumexp", g, x);
  const Shape reduced = normalize_axes("logsumexp", axes, x.rank());
  require_result_gradient("logsumexp", g, x, reduced, keepdim);
  return TENDRIL_ON_DEVICE(x, logsumexp_backward(g, x, reduced));
}

}  // namespace tendril::ops
