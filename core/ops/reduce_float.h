// What the floating-point reductions share: accurate sums, rounding once, and the elementwise loop
// of their backward passes. Internal.
#pragma once

#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/reduce_engine.h>
#include <tendril/core/ops/reduce_kernels.h>

namespace tendril::ops {

/// Sums of x, |x| or (x - shift)^2, in double.
template <class T>
struct FloatSum {
  using Partial = double;
  static constexpr bool has_columns = true;
  ::tendril::cpu::Term term = ::tendril::cpu::Term::value;
  const compute_t<T>* shift = nullptr;  // one per result, or null

  double identity() const { return 0; }
  void combine(double& a, double b) const { a += b; }
  double row(const T* x, int64_t n, int64_t result, int64_t) const {
    const compute_t<T> one = shift ? shift[result] : 0;
    return TENDRIL_ISA_CALL(sum_row<T>(x, n, term, one));
  }
  void columns(const T* x, int64_t stride, int64_t rows, int64_t columns, double* sums,
               int64_t result) const {
    const compute_t<T>* shifts = shift ? shift + result : nullptr;
    TENDRIL_ISA_CALL(sum_columns<T>(x, stride, rows, columns, term, shifts, sums));
  }
};

/// y[i] = f(i), converted to T, for a dense y.
template <class T, class Function>
void fill_results(T* y, int64_t count, Function f) {
  parallel_for(count, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = convert<T>(f(i));
  });
}

/// All elements of a strided tensor of T as dense numbers of type Out.
template <class T, class Out>
Scratch<Out> dense_values(const Tensor& x) {
  const Scratch<Out> values(x.numel());
  parallel_for(x.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
    gather_range(x.data<T>(), x.shape(), x.strides(), begin, end - begin, values.data() + begin);
  });
  return values;
}

/// dx = f(x, a, b) for every element of x, with one a and one b per result of reducing x over
/// `axes`. dx is dense, a and b lie in the order of the results.
template <class T, class A, class Function>
void map_with_results(const Tensor& x, const Shape& axes, const A* a, const A* b, const Tensor& dx,
                      Function f) {
  if (x.numel() == 0) return;
  Tensor results = Tensor::empty(reduced_shape(x.shape(), axes, true), u8);  // only for its strides
  Shape shape = x.shape(), strides = x.strides(), result_strides = results.strides();
  for (int64_t axis : axes) result_strides[axis] = 0;
  if (shape.empty()) shape = {1}, strides = {0}, result_strides = {0};
  const int64_t last = shape.rank() - 1, inner = shape[last];
  const int64_t step = strides[last], result_step = result_strides[last];
  for (Shape* dropped : {&shape, &strides, &result_strides}) dropped->erase(last);

  const T* values = x.data<T>();
  T* out = dx.data<T>();
  const int64_t pieces = (inner + kReduceChunk - 1) / kReduceChunk;  // of a long row
  parallel_for(
      shape.numel() * pieces, std::max<int64_t>(1, kReduceChunk / inner),
      [&](int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; ++task) {
          const int64_t row = task / pieces, first = task % pieces * kReduceChunk;
          const int64_t last_column = std::min(inner, first + kReduceChunk);
          const T* source = values + offset_of(row, shape, strides);
          const int64_t result = offset_of(row, shape, result_strides);
          T* target = out + row * inner;
          if (result_step == 0) {
            const A a_row = a[result], b_row = b[result];
            for (int64_t i = first; i < last_column; ++i)
              target[i] = static_cast<T>(f(static_cast<A>(source[i * step]), a_row, b_row));
          } else {
            for (int64_t i = first; i < last_column; ++i)
              target[i] =
                  static_cast<T>(f(static_cast<A>(source[i * step]), a[result + i * result_step],
                                   b[result + i * result_step]));
          }
        }
      });
}

/// Error unless g can be the gradient of reducing x over `axes` (normalised).
inline void require_result_gradient(const char* op, const Tensor& g, const Tensor& x,
                                    const Shape& axes, bool keepdim) {
  const Shape expected = reduced_shape(x.shape(), axes, keepdim);
  TENDRIL_CHECK(g.shape() == expected && g.dtype() == x.dtype(), "[", op,
                "] the gradient does not fit; got ", g.shape(), " ", g.dtype(), "; it should be ",
                expected, " ", x.dtype());
}

}  // namespace tendril::ops
