// max, min, argmax, argmin, any, all.
#include <tendril/core/ops/reduce_extreme.h>

#include <cstring>

#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/reduce.h>
#include <tendril/core/ops/reduce_float.h>

namespace tendril::ops {
namespace cpu {
namespace {

using ::tendril::cpu::Extreme;

// The first extreme value with its position among the values of its result.
template <class T>
struct ExtremeIndex {
  struct Partial {
    compute_t<T> value;
    int64_t index;
  };
  static constexpr bool has_columns = false;
  ExtremeOf<T> extreme;

  Partial identity() const { return {extreme.identity(), -1}; }
  void combine(Partial& a, const Partial& b) const {
    if (a.index < 0 || extreme.beats(b.value, a.value)) a = b;
  }
  // Two passes: the value by vectors, then its first place.
  Partial row(const T* x, int64_t n, int64_t result, int64_t start) const {
    const compute_t<T> best = extreme.row(x, n, result, start);
    const auto is_best = [&](compute_t<T> value) {
      if constexpr (is_floating(dtype_of<T>())) {
        if (std::isnan(best)) return std::isnan(value);
        if (extreme.kind == Extreme::max_absolute) value = std::abs(value);
      }
      return value == best;
    };
    int64_t i = 0;
    while (i < n - 1 && !is_best(x[i])) ++i;
    return {best, start + i};
  }
};

template <class T>
Scratch<typename ExtremeIndex<T>::Partial> first_extremes(const Tensor& x,
                                                          const ReduceLayout& layout,
                                                          Extreme kind) {
  const Scratch<typename ExtremeIndex<T>::Partial> best(layout.results);
  reduce(x.data<T>(), layout, ExtremeIndex<T>{{kind}}, best.data());
  return best;
}

// any: some value is not 0. all: no value is 0.
template <class T>
struct Truth {
  using Partial = bool;
  static constexpr bool has_columns = true;
  bool all;

  bool identity() const { return all; }
  void combine(bool& a, bool b) const { a = all ? a && b : a || b; }
  static bool is_true(T value) { return static_cast<compute_t<T>>(value) != compute_t<T>(0); }
  bool row(const T* x, int64_t n, int64_t, int64_t) const {
    for (int64_t i = 0; i < n; ++i)
      if (is_true(x[i]) != all) return !all;
    return all;
  }
  void columns(const T* x, int64_t stride, int64_t rows, int64_t columns, bool* found,
               int64_t) const {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c)
        if (is_true(x[r * stride + c]) != all) found[c] = !all;
  }
};

}  // namespace

Tensor extreme(const Tensor& x, const Shape& axes, bool keepdim, Extreme kind) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), x.dtype());
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    if constexpr (std::is_same_v<T, compute_t<T>>) {
      reduce(x.data<T>(), layout, ExtremeOf<T>{kind}, y.data<T>());
    } else {
      const Scratch<float> best(layout.results);
      reduce(x.data<T>(), layout, ExtremeOf<T>{kind}, best.data());
      fill_results(y.data<T>(), y.numel(), [&](int64_t i) { return best[i]; });
    }
  });
  return y;
}

Tensor extreme_backward(const Tensor& g, const Tensor& x, const Shape& axes, Extreme kind) {
  const ReduceLayout layout(x, axes, /*any_order=*/false);
  const Tensor dx = Tensor::empty(x.shape(), x.dtype());
  std::memset(dx.raw_data(), 0, static_cast<size_t>(dx.nbytes()));
  // A result's index and a position among its values, as places in dx.
  const ReduceLayout places(dx, axes, /*any_order=*/false);
  visit_floating("max", x.dtype(), [&]<class T>(TypeTag<T>) {
    const auto best = first_extremes<T>(x, layout, kind);
    const Scratch<T> dy = dense_values<T, T>(g);
    parallel_for(layout.results, 1 << 12, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (best[i].index < 0) continue;
        const int64_t place = offset_of(i, places.kept, places.kept_strides) +
                              offset_of(best[i].index, places.reduced, places.reduced_strides);
        T gradient = dy[i];
        if (kind == Extreme::max_absolute) {  // only the sign of x is missing
          const int64_t from = offset_of(i, layout.kept, layout.kept_strides) +
                               offset_of(best[i].index, layout.reduced, layout.reduced_strides);
          const auto value = static_cast<compute_t<T>>(x.data<T>()[from]);
          gradient = static_cast<T>(static_cast<compute_t<T>>(gradient) *
                                    static_cast<compute_t<T>>((value > 0) - (value < 0)));
        }
        dx.data<T>()[place] = gradient;
      }
    });
  });
  return dx;
}

Tensor extreme_index(const Tensor& x, const Shape& axes, bool keepdim, Extreme kind) {
  const ReduceLayout layout(x, axes, /*any_order=*/false);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), i64);
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    const auto best = first_extremes<T>(x, layout, kind);
    fill_results(y.data<int64_t>(), y.numel(), [&](int64_t i) { return best[i].index; });
  });
  return y;
}

Tensor truth(const Tensor& x, const Shape& axes, bool keepdim, bool all) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), bool_);
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    reduce(x.data<T>(), layout, Truth<T>{all}, y.data<bool>());
  });
  return y;
}

}  // namespace cpu

namespace cuda {  // reduce_extreme.cu
Tensor extreme(const Tensor& x, const Shape& axes, bool keepdim, ::tendril::cpu::Extreme kind);
Tensor extreme_index(const Tensor& x, const Shape& axes, bool keepdim,
                     ::tendril::cpu::Extreme kind);
Tensor extreme_backward(const Tensor& g, const Tensor& x, const Shape& axes,
                        ::tendril::cpu::Extreme kind);
Tensor truth(const Tensor& x, const Shape& axes, bool keepdim, bool all);
}  // namespace cuda

namespace {

using ::tendril::cpu::Extreme;

// The axes, checked: every result must have at least one value.
Shape axes_with_values(const char* op, const Tensor& x, const Shape& axes) {
  const Shape reduced = normalize_axes(op, axes, x.rank());
  for (int64_t axis : reduced)
    TENDRIL_CHECK(x.shape()[axis] > 0 || reduced_shape(x.shape(), reduced, false).numel() == 0, "[",
                  op, "] there is no such value of an empty axis; got shape ", x.shape(),
                  " and axes ", reduced);
  return reduced;
}

Tensor extreme(const char* op, const Tensor& x, const Shape& axes, bool keepdim, Extreme kind) {
  const Shape reduced = axes_with_values(op, x, axes);
  return TENDRIL_ON_DEVICE(x, extreme(x, reduced, keepdim, kind));
}

Tensor extreme_backward(const char* op, const Tensor& g, const Tensor& x, const Shape& axes,
                        bool keepdim, Extreme kind) {
  require_same_device(op, g, x);
  const Shape reduced = axes_with_values(op, x, axes);
  require_result_gradient(op, g, x, reduced, keepdim);
  return TENDRIL_ON_DEVICE(x, extreme_backward(g, x, reduced, kind));
}

Tensor extreme_index(const char* op, const Tensor& x, std::optional<int64_t> axis, bool keepdim,
                     Extreme kind) {
  const Shape reduced = axes_with_values(op, x, axis ? Shape{*axis} : Shape{});
  return TENDRIL_ON_DEVICE(x, extreme_index(x, reduced, keepdim, kind));
}

}  // namespace

Tensor max(const Tensor& x, const Shape& axes, bool keepdim) {
  return extreme("max", x, axes, keepdim, Extreme::max);
}
Tensor min(const Tensor& x, const Shape& axes, bool keepdim) {
  return extreme("min", x, axes, keepdim, Extreme::min);
}

Tensor max_backward(const Tensor& g, const Tensor& x, const Shape& axes, bool keepdim) {
  return extreme_backward("max", g, x, axes, keepdim, Extreme::max);
}
Tensor min_backward(const Tensor& g, const Tensor& x, const Shape& axes, bool keepdim) {
  return extreme_backward("min", g, x, axes, keepdim, Extreme::min);
}

Tensor argmax(const Tensor& x, std::optional<int64_t> axis, bool keepdim) {
  return extreme_index("argmax", x, axis, keepdim, Extreme::max);
}
Tensor argmin(const Tensor& x, std::optional<int64_t> axis, bool keepdim) {
  return extreme_index("argmin", x, axis, keepdim, Extreme::min);
}

Tensor any(const Tensor& x, const Shape& axes, bool keepdim) {
  const Shape reduced = normalize_axes("any", axes, x.rank());
  return TENDRIL_ON_DEVICE(x, truth(x, reduced, keepdim, /*all=*/false));
}
Tensor all(const Tensor& x, const Shape& axes, bool keepdim) {
  const Shape reduced = normalize_axes("all", axes, x.rank());
  return TENDRIL_ON_DEVICE(x, truth(x, reduced, keepdim, /*all=*/true));
}

}  // namespace tendril::ops
