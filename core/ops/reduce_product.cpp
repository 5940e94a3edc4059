// prod and cumsum.
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/reduce.h>
#include <tendril/core/ops/reduce_float.h>

namespace tendril::ops {
namespace cpu {
namespace {

// Floating numbers accumulate in double; integers wrap around at 64 bits.
template <class T>
using Wide = std::conditional_t<is_floating(dtype_of<T>()), double, uint64_t>;

template <class T>
struct Product {
  using Partial = Wide<T>;
  static constexpr bool has_columns = false;

  Partial identity() const { return 1; }
  void combine(Partial& a, Partial b) const { a *= b; }
  Partial row(const T* x, int64_t n, int64_t, int64_t) const {
    Partial lanes[4] = {1, 1, 1, 1};  // independent, so that multiplications overlap
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
      for (int64_t k = 0; k < 4; ++k) lanes[k] *= static_cast<Partial>(x[i + k]);
    for (; i < n; ++i) lanes[0] *= static_cast<Partial>(x[i]);
    return (lanes[0] * lanes[1]) * (lanes[2] * lanes[3]);
  }
};

// Several lines are summed at once: when their elements are neighbours, whole cache lines are used.
constexpr int64_t kLines = 16;

// out[i] = x[0] + ... + x[i] (reverse: x[i] + ... + x[n - 1]) for `lines` lines, each given by its
// offsets.
template <class T, class Out>
void scan_lines(const T* x, const int64_t* x_offsets, int64_t x_step, Out* out,
                const int64_t* out_offsets, int64_t out_step, int64_t n, int64_t lines) {
  Wide<T> sums[kLines] = {};
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < lines; ++k) {
      sums[k] += static_cast<Wide<T>>(x[x_offsets[k] + i * x_step]);
      out[out_offsets[k] + i * out_step] = static_cast<Out>(sums[k]);
    }
}

}  // namespace

Tensor prod(const Tensor& x, const Shape& axes, bool keepdim) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  const Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim),
                                 is_floating(x.dtype()) ? x.dtype() : i64);
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    const Scratch<Wide<T>> products(layout.results);
    reduce(x.data<T>(), layout, Product<T>{}, products.data());
    using Out = std::conditional_t<is_floating(dtype_of<T>()), T, int64_t>;
    fill_results(y.data<Out>(), y.numel(), [&](int64_t i) { return products[i]; });
  });
  return y;
}

// The product of the others is the product of those before times the product of those after:
// correct with any number of zeros.
Tensor prod_backward(const Tensor& g, const Tensor& x, const Shape& axes) {
  const Tensor dx = Tensor::empty(x.shape(), x.dtype());
  const ReduceLayout layout(x, axes, /*any_order=*/false), places(dx, axes, /*any_order=*/false);
  const int64_t n = layout.count;
  if (x.numel() == 0) return dx;
  visit_floating("prod", x.dtype(), [&]<class T>(TypeTag<T>) {
    const Scratch<double> dy = dense_values<T, double>(g);
    const T* const values_of_x = x.data<T>();
    T* const values_of_dx = dx.data<T>();
    parallel_for(layout.results, std::max<int64_t>(1, kReduceChunk / n),
                 [&](int64_t begin, int64_t end) {
                   const ThreadScratch<double> value_memory(n), before_memory(n);
                   double *values = value_memory.get(), *before = before_memory.get();
                   for (int64_t result = begin; result < end; ++result) {
                     gather_range(values_of_x + offset_of(result, layout.kept, layout.kept_strides),
                                  layout.reduced, layout.reduced_strides, 0, n, values);
                     double product = dy[result];
                     for (int64_t i = 0; i < n; ++i) before[i] = product, product *= values[i];
                     T* out = values_of_dx + offset_of(result, places.kept, places.kept_strides);
                     double after = 1;
                     for (int64_t i = n - 1; i >= 0; --i) {
                       out[offset_of(i, places.reduced, places.reduced_strides)] =
                           static_cast<T>(before[i] * after);
                       after *= values[i];
                     }
                   }
                 });
  });
  return dx;
}

Tensor cumsum(const Tensor& x, int64_t axis, bool reverse) {
  const Tensor y = Tensor::empty(x.shape(), is_floating(x.dtype()) ? x.dtype() : i64);
  if (x.numel() == 0) return y;
  Shape shape = x.shape(), x_strides = x.strides(), y_strides = y.strides();
  const int64_t n = shape[axis], x_step = x_strides[axis], y_step = y_strides[axis];
  for (Shape* dropped : {&shape, &x_strides, &y_strides}) dropped->erase(axis);
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    using Out = std::conditional_t<is_floating(dtype_of<T>()), T, int64_t>;
    const T* from = x.data<T>() + (reverse ? (n - 1) * x_step : 0);
    Out* out = y.data<Out>() + (reverse ? (n - 1) * y_step : 0);
    const int64_t sign = reverse ? -1 : 1;
    const int64_t chunk = kLines * std::max<int64_t>(1, kReduceChunk / (n * kLines));
    parallel_for(shape.numel(), chunk, [&](int64_t begin, int64_t end) {
      int64_t x_offsets[kLines], y_offsets[kLines];
      for (int64_t first = begin; first < end; first += kLines) {
        const int64_t lines = std::min(kLines, end - first);
        for (int64_t k = 0; k < lines; ++k) {
          x_offsets[k] = offset_of(first + k, shape, x_strides);
          y_offsets[k] = offset_of(first + k, shape, y_strides);
        }
        scan_lines(from, x_offsets, sign * x_step, out, y_offsets, sign * y_step, n, lines);
      }
    });
  });
  return y;
}

}  // namespace cpu

namespace cuda {  // reduce_product.cu
Tensor prod(const Tensor& x, const Shape& axes, bool keepdim);
Tensor prod_backward(const Tensor& g, const Tensor& x, const Shape& axes);
Tensor cumsum(const Tensor& x, int64_t axis, bool reverse);
}  // namespace cuda

Tensor prod(const Tensor& x, const Shape& axes, bool keepdim) {
  const Shape reduced = normalize_axes("prod", axes, x.rank());
  return TENDRIL_ON_DEVICE(x, prod(x, reduced, keepdim));
}

Tensor prod_backward(const Tensor& g, const Tensor& x, const Shape& axes, bool keepdim) {
  require_same_device("prod", g, x);
  const Shape reduced = normalize_axes("prod", axes, x.rank());
  require_result_gradient("prod", g, x, reduced, keepdim);
  return TENDRIL_ON_DEVICE(x, prod_backward(g, x, reduced));
}

Tensor cumsum(const Tensor& x, int64_t axis) {
  const int64_t along = normalize_axis("cumsum", axis, x.rank());
  return TENDRIL_ON_DEVICE(x, cumsum(x, along, /*reverse=*/false));
}

Tensor cumsum_backward(const Tensor& g, int64_t axis) {
  const int64_t along = normalize_axis("cumsum", axis, g.rank());
  return TENDRIL_ON_DEVICE(g, cumsum(g, along, /*reverse=*/true));
}

}  // namespace tendril::ops
