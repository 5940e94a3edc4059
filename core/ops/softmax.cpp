#include <tendril/core/ops/softmax.h>

#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/elements.h>
#include <tendril/core/ops/softmax_rows.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace cpu {
namespace {

// kernel(x row, y row, length) for every row of x along `axis`.
template <class Kernel>
Tensor map_rows(const char* op, const Tensor& x, int64_t axis, Kernel kernel) {
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  visit_floating(op, x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Elements<T> in(x, axis), out(y, axis);
    const int64_t n = in.row_length();
    parallel_for(in.rows(), rows_per_chunk(n), [&](int64_t begin, int64_t end) {
      const auto buffer = scratch<compute_t<T>>(n), result_buffer = scratch<compute_t<T>>(n);
      for (int64_t at = begin * n; at < end * n; at += n) {
        auto* result = out.target(at, n, result_buffer.get());
        kernel(in.read(at, n, buffer.get()), result, n);
        out.write(at, n, result);
      }
    });
  });
  return y;
}

// kernel(g row, y row, dx row, length)
template <class Kernel>
Tensor map_row_pairs(const char* op, const Tensor& g, const Tensor& y, int64_t axis,
                     Kernel kernel) {
  const Tensor dx = Tensor::empty(y.shape(), y.dtype(), y.device());
  visit_floating(op, y.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Elements<T> in(g, axis), saved(y, axis), out(dx, axis);
    const int64_t n = in.row_length();
    parallel_for(in.rows(), rows_per_chunk(n), [&](int64_t begin, int64_t end) {
      const auto buffer = scratch<compute_t<T>>(n), saved_buffer = scratch<compute_t<T>>(n);
      const auto result_buffer = scratch<compute_t<T>>(n);
      for (int64_t at = begin * n; at < end * n; at += n) {
        auto* result = out.target(at, n, result_buffer.get());
        kernel(in.read(at, n, buffer.get()), saved.read(at, n, saved_buffer.get()), result, n);
        out.write(at, n, result);
      }
    });
  });
  return dx;
}

Tensor softmax(const Tensor& x, int64_t axis) {
  return map_rows("softmax", x, axis,
                  [](auto* row, auto* y, int64_t n) { TENDRIL_ISA_CALL(softmax_row(row, y, n)); });
}

Tensor log_softmax(const Tensor& x, int64_t axis) {
  return map_rows("log_softmax", x, axis, [](auto* row, auto* y, int64_t n) {
    TENDRIL_ISA_CALL(log_softmax_row(row, y, n));
  });
}

Tensor softmax_backward(const Tensor& g, const Tensor& y, int64_t axis) {
  return map_row_pairs("softmax_backward", g, y, axis,
                       [](auto* g_row, auto* y_row, auto* dx, int64_t n) {
                         TENDRIL_ISA_CALL(softmax_row_backward(g_row, y_row, dx, n));
                       });
}

Tensor log_softmax_backward(const Tensor& g, const Tensor& y, int64_t axis) {
  return map_row_pairs("log_softmax_backward", g, y, axis,
                       [](auto* g_row, auto* y_row, auto* dx, int64_t n) {
                         TENDRIL_ISA_CALL(log_softmax_row_backward(g_row, y_row, dx, n));
                       });
}

}  // namespace
}  // namespace cpu

namespace cuda {  // softmax.cu
Tensor softmax(const Tensor& x, int64_t axis);
Tensor log_softmax(const Tensor& x, int64_t axis);
Tensor softmax_backward(const Tensor& g, const Tensor& y, int64_t axis);
Tensor log_softmax_backward(const Tensor& g, const Tensor& y, int64_t axis);
}  // namespace cuda

namespace {

int64_t checked_axis(const char* op, const Tensor& x, int64_t axis) {
  TENDRIL_CHECK(is_floating(x.dtype()), "[", op, "] needs a floating-point tensor; got ", x.dtype(),
                "; cast it with to(x, f32)");
  return normalize_axis(op, axis, x.rank());
}

int64_t checked_backward_axis(const char* op, const Tensor& g, const Tensor& y, int64_t axis) {
  require_same_device(op, y, g);
  TENDRIL_CHECK(g.shape() == y.shape() && g.dtype() == y.dtype(), "[", op,
                "] gradient and output differ; got ", g.shape(), " ", g.dtype(), " and ", y.shape(),
                " ", y.dtype(), "; they must be alike");
  return checked_axis(op, y, axis);
}

}  // namespace

Tensor softmax(const Tensor& x, int64_t axis) {
  axis = checked_axis("softmax", x, axis);
  return TENDRIL_ON_DEVICE(x, softmax(x, axis));
}

Tensor softmax_backward(const Tensor& g, const Tensor& y, int64_t axis) {
  axis = checked_backward_axis("softmax_backward", g, y, axis);
  return TENDRIL_ON_DEVICE(y, softmax_backward(g, y, axis));
}

Tensor log_softmax(const Tensor& x, int64_t axis) {
  axis = checked_axis("log_softmax", x, axis);
  return TENDRIL_ON_DEVICE(x, log_softmax(x, axis));
}

Tensor log_softmax_backward(const Tensor& g, const Tensor& y, int64_t axis) {
  axis = checked_backward_axis("log_softmax_backward", g, y, axis);
  return TENDRIL_ON_DEVICE(y, log_softmax_backward(g, y, axis));
}

}  // namespace tendril::ops
