// Sums and what is made of them: sum, mean, var, std.
#include <tendril/core/ops/reduce.h>

#include <cmath>

#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/reduce_float.h>

namespace tendril::ops {
namespace cpu {
namespace {

using ::tendril::cpu::Term;

// Sums of integers and bools wrap around at 64 bits.
template <class T>
struct IntegerSum {
  using Partial = uint64_t;
  static constexpr bool has_columns = true;

  uint64_t identity() const { return 0; }
  void combine(uint64_t& a, uint64_t b) const { a += b; }
  uint64_t row(const T* x, int64_t n, int64_t, int64_t) const {
    uint64_t total = 0;
    for (int64_t i = 0; i < n; ++i) total += static_cast<uint64_t>(x[i]);
    return total;
  }
  void columns(const T* x, int64_t stride, int64_t rows, int64_t columns, uint64_t* sums,
               int64_t) const {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c) sums[c] += static_cast<uint64_t>(x[r * stride + c]);
  }
};

// The mean of the values of each result.
template <class T>
Scratch<double> means(const Tensor& x, const ReduceLayout& layout) {
  const Scratch<double> mean(layout.results);
  reduce(x.data<T>(), layout, FloatSum<T>{}, mean.data());
  for (int64_t i = 0; i < layout.results; ++i) mean[i] /= static_cast<double>(layout.count);
  return mean;
}

double divisor(const ReduceLayout& layout, int64_t correction) {
  return std::max(static_cast<double>(layout.count) - static_cast<double>(correction), 0.0);
}

}  // namespace

Tensor sum(const Tensor& x, const Shape& axes, bool keepdim) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim),
                                 is_floating(x.dtype()) ? x.dtype() : i64);
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    if constexpr (is_floating(dtype_of<T>())) {
      const Scratch<double> sums(layout.results);
      reduce(x.data<T>(), layout, FloatSum<T>{}, sums.data());
      fill_results(y.data<T>(), y.numel(), [&](int64_t i) { return sums[i]; });
    } else {
      reduce(x.data<T>(), layout, IntegerSum<T>{}, reinterpret_cast<uint64_t*>(y.data<int64_t>()));
    }
  });
  return y;
}

Tensor mean(const Tensor& x, const Shape& axes, bool keepdim) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim),
                                 is_floating(x.dtype()) ? x.dtype() : f32);
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    if constexpr (is_floating(dtype_of<T>())) {
      const Scratch<double> mean = means<T>(x, layout);
      fill_results(y.data<T>(), y.numel(), [&](int64_t i) { return mean[i]; });
    } else {
      const Scratch<uint64_t> sums(layout.results);
      reduce(x.data<T>(), layout, IntegerSum<T>{}, sums.data());
      fill_results(y.data<float>(), y.numel(), [&](int64_t i) {
        return static_cast<double>(static_cast<int64_t>(sums[i])) /
               static_cast<double>(layout.count);
      });
    }
  });
  return y;
}

Tensor mean_backward(const Tensor& g, int64_t count) {
  const Tensor scaled = Tensor::empty(g.shape(), g.dtype());
  visit_floating("mean", g.dtype(), [&]<class T>(TypeTag<T>) {
    const Scratch<double> dy = dense_values<T, double>(g);
    fill_results(scaled.data<T>(), g.numel(),
                 [&](int64_t i) { return dy[i] / static_cast<double>(count); });
  });
  return scaled;
}

// Two passes. The mean that is subtracted is rounded to T's arithmetic; the last term takes that
// rounding out again: sum (x - mean)^2 = sum (x - shift)^2 - n (mean - shift)^2.
Tensor var(const Tensor& x, const Shape& axes, bool keepdim, int64_t correction, bool root) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), x.dtype());
  visit_floating(root ? "std" : "var", x.dtype(), [&]<class T>(TypeTag<T>) {
    const Scratch<double> mean = means<T>(x, layout), squares(layout.results);
    const Scratch<compute_t<T>> shift(layout.results);
    fill_results(shift.data(), layout.results, [&](int64_t i) { return mean[i]; });
    reduce(x.data<T>(), layout, FloatSum<T>{Term::square, shift.data()}, squares.data());
    fill_results(y.data<T>(), y.numel(), [&](int64_t i) {
      const double rounding = mean[i] - static_cast<double>(shift[i]);
      const double total = squares[i] - static_cast<double>(layout.count) * rounding * rounding;
      const double variance = (total < 0 ? 0 : total) / divisor(layout, correction);
      return root ? std::sqrt(variance) : variance;
    });
  });
  return y;
}

// dx = a (x - mean), where a is 2 g / (n - correction) or, for a root y, g / ((n - correction) y).
Tensor var_backward(const Tensor& g, const Tensor& x, const Tensor& y, const Shape& axes,
                    int64_t correction) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor dx = Tensor::empty(x.shape(), x.dtype());
  visit_floating("var", x.dtype(), [&]<class T>(TypeTag<T>) {
    const Scratch<double> a = dense_values<T, double>(g), mean = means<T>(x, layout);
    if (y.defined()) {
      const Scratch<double> root = dense_values<T, double>(y);
      fill_results(a.data(), layout.results, [&](int64_t i) {
        return root[i] == 0 ? 0.0 : a[i] / (divisor(layout, correction) * root[i]);
      });
    } else {
      fill_results(a.data(), layout.results,
                   [&](int64_t i) { return 2 * a[i] / divisor(layout, correction); });
    }
    map_with_results<T>(
        x, axes, a.data(), mean.data(), dx,
        [](double value, double scale, double middle) { return scale * (value - middle); });
  });
  return dx;
}

}  // namespace cpu

namespace cuda {  // reduce.cu
Tensor sum(const Tensor& x, const Shape& axes, bool keepdim);
Tensor mean(const Tensor& x, const Shape& axes, bool keepdim);
Tensor mean_backward(const Tensor& g, int64_t count);
Tensor var(const Tensor& x, const Shape& axes, bool keepdim, int64_t correction, bool root);
Tensor var_backward(const Tensor& g, const Tensor& x, const Tensor& y, const Shape& axes,
                    int64_t correction);
}  // namespace cuda

Tensor sum(const Tensor& x, const Shape& axes, bool keepdim) {
  const Shape reduced = normalize_axes("sum", axes, x.rank());
  return TENDRIL_ON_DEVICE(x, sum(x, reduced, keepdim));
}

Tensor sum_backward(const Tensor& g, const Shape& x_shape, const Shape& axes, bool keepdim) {
  return expand_result("sum", g, x_shape, normalize_axes("sum", axes, x_shape.rank()), keepdim);
}

Tensor sum_to(const Tensor& g, const Shape& shape) {
  if (g.shape() == shape) return g;
  const int64_t lead = g.rank() - shape.rank();
  bool fits = lead >= 0;
  Shape axes;
  for (int64_t i = 0; fits && i < g.rank(); ++i) {
    if (i < lead || (shape[i - lead] == 1 && g.shape()[i] != 1))
      axes.push_back(i);
    else
      fits = shape[i - lead] == g.shape()[i];
  }
  TENDRIL_CHECK(fits, "[sum_to] the target shape does not broadcast to the gradient's; got ", shape,
                " and ", g.shape());
  const Tensor y = sum(g, axes, /*keepdim=*/true);
  return Tensor::view(y.storage(), y.offset(), shape, contiguous_strides(shape), y.dtype());
}

Tensor mean(const Tensor& x, const Shape& axes, bool keepdim) {
  const Shape reduced = normalize_axes("mean", axes, x.rank());
  return TENDRIL_ON_DEVICE(x, mean(x, reduced, keepdim));
}

Tensor mean_backward(const Tensor& g, const Shape& x_shape, const Shape& axes, bool keepdim) {
  const Shape reduced = normalize_axes("mean", axes, x_shape.rank());
  Shape sizes;
  for (int64_t axis : reduced) sizes.push_back(x_shape[axis]);
  const int64_t count = sizes.numel();
  return expand_result("mean", TENDRIL_ON_DEVICE(g, mean_backward(g, count)), x_shape, reduced,
                       keepdim);
}

Tensor var(const Tensor& x, const Shape& axes, bool keepdim, int64_t correction) {
  const Shape reduced = normalize_axes("var", axes, x.rank());
  return TENDRIL_ON_DEVICE(x, var(x, reduced, keepdim, correction, /*root=*/false));
}

Tensor var_backward(const Tensor& g, const Tensor& x, const Shape& axes, bool keepdim,
                    int64_t correction) {
  require_same_device("var", g, x);
  const Shape reduced = normalize_axes("var", axes, x.rank());
  require_result_gradient("var", g, x, reduced, keepdim);
  return TENDRIL_ON_DEVICE(x, var_backward(g, x, Tensor(), reduced, correction));
}

Tensor std(const Tensor& x, const Shape& axes, bool keepdim, int64_t correction) {
  const Shape reduced = normalize_axes("std", axes, x.rank());
  return TENDRIL_ON_DEVICE(x, var(x, reduced, keepdim, correction, /*root=*/true));
}

Tensor std_backward(const Tensor& g, const Tensor& x, const Tensor& y, const Shape& axes,
                    bool keepdim, int64_t correction) {
  require_same_device("std", g, x, y);
  const Shape reduced = normalize_axes("std", axes, x.rank());
  require_result_gradient("std", g, x, reduced, keepdim);
  require_result_gradient("std", y, x, reduced, keepdim);
  return TENDRIL_ON_DEVICE(x, var_backward(g, x, y, reduced, correction));
}

}  // namespace tendril::ops
