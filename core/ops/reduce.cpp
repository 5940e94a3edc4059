#include <tendril/core/ops/reduce.h>

#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/reduce_engine.h>
#include <tendril/core/ops/reduce_kernels.h>

namespace tendril::ops {
namespace cpu {
namespace {

using ::tendril::cpu::Term;

// Sums of floating values, in double.
template <class T>
struct FloatSum {
  using Partial = double;
  static constexpr bool has_columns = true;
  Term term = Term::value;
  const compute_t<T>* shift = nullptr;  // one per result, or null

  double identity() const { return 0; }
  void combine(double& a, double b) const { a += b; }
  double row(const T* x, int64_t n, int64_t result) const {
    const compute_t<T> one = shift ? shift[result] : 0;
    return TENDRIL_ISA_CALL(sum_row<T>(x, n, term, one));
  }
  void columns(const T* x, int64_t stride, int64_t rows, int64_t columns, double* sums,
               int64_t result) const {
    const compute_t<T>* shifts = shift ? shift + result : nullptr;
    TENDRIL_ISA_CALL(sum_columns<T>(x, stride, rows, columns, term, shifts, sums));
  }
};

// Sums of integers and bools wrap around at 64 bits.
template <class T>
struct IntegerSum {
  using Partial = uint64_t;
  static constexpr bool has_columns = true;

  uint64_t identity() const { return 0; }
  void combine(uint64_t& a, uint64_t b) const { a += b; }
  uint64_t row(const T* x, int64_t n, int64_t) const {
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

// y[i] = T(f(partial[i], i)), rounded once.
template <class T, class Partial, class Function>
void finish(const Partial* partials, Tensor& y, Function f) {
  T* out = y.data<T>();
  parallel_for(y.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = static_cast<T>(f(partials[i], i));
  });
}

}  // namespace

Tensor sum(const Tensor& x, const Shape& axes, bool keepdim) {
  const ReduceLayout layout(x, axes, /*any_order=*/true);
  Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim),
                           is_floating(x.dtype()) ? x.dtype() : i64);
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    if constexpr (is_floating(dtype_of<T>())) {
      const Scratch<double> sums(layout.results);
      reduce(x.data<T>(), layout, FloatSum<T>{}, sums.data());
      finish<T>(sums.data(), y, [](double sum, int64_t) { return sum; });
    } else {
      reduce(x.data<T>(), layout, IntegerSum<T>{}, reinterpret_cast<uint64_t*>(y.data<int64_t>()));
    }
  });
  return y;
}

}  // namespace cpu

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

}  // namespace tendril::ops
