#include <tendril/core/ops/inplace.h>

#include <cmath>
#include <type_traits>

#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace {

constexpr int64_t kChunk = 32768;  // elements per parallel piece

// Integers wrap around in 64 unsigned bits, where overflow is defined.
template <class T>
using arithmetic_t = std::conditional_t<std::is_integral_v<T>, uint64_t, compute_t<T>>;

template <class T>
arithmetic_t<T> scalar(double value) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<uint64_t>(static_cast<int64_t>(value));
  else
    return static_cast<compute_t<T>>(value);
}

void check_arithmetic(const char* op, DType dtype, double factor) {
  TENDRIL_CHECK(dtype != bool_, "[", op, "] bools have no arithmetic; cast them with to(x, i64)");
  TENDRIL_CHECK(is_floating(dtype) || (std::trunc(factor) == factor && std::abs(factor) < 0x1p63),
                "[", op, "] an integer tensor needs an integer factor; got ", factor);
}

template <class Body>
void visit_arithmetic(DType dtype, Body&& body) {
  visit_dtype(dtype, [&]<class T>(TypeTag<T> tag) {
    if constexpr (!std::is_same_v<T, bool>) body(tag);
  });
}

template <class T, class Y>
void add_loop(T* x, const Y* y, int64_t count, arithmetic_t<T> alpha) {
  parallel_for(count, kChunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      x[i] = static_cast<T>(static_cast<arithmetic_t<T>>(x[i]) +
                            alpha * static_cast<arithmetic_t<T>>(y[i]));
  });
}

}  // namespace

namespace cpu {

// x is dense; y broadcasts to it.
void add_in_place(const Tensor& x, const Tensor& y, double alpha) {
  const bool same = y.dtype() == x.dtype();
  const Tensor addend =
      contiguous(expand(same ? y : cast(y, accumulate_dtype(x.dtype())), x.shape()));
  visit_arithmetic(x.dtype(), [&]<class T>(TypeTag<T>) {
    if (same)
      add_loop(x.data<T>(), addend.data<T>(), x.numel(), scalar<T>(alpha));
    else
      add_loop(x.data<T>(), addend.data<compute_t<T>>(), x.numel(), scalar<T>(alpha));
  });
}

void mul_in_place(const Tensor& x, double factor) {
  visit_arithmetic(x.dtype(), [&]<class T>(TypeTag<T>) {
    const arithmetic_t<T> by = scalar<T>(factor);
    T* data = x.data<T>();
    parallel_for(x.numel(), kChunk, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        data[i] = static_cast<T>(static_cast<arithmetic_t<T>>(data[i]) * by);
    });
  });
}

}  // namespace cpu

namespace cuda {
void add_in_place(const Tensor& x, const Tensor& y, double alpha);  // inplace.cu
void mul_in_place(const Tensor& x, double factor);
}  // namespace cuda

void add_in_place(const Tensor& x, const Tensor& y, double alpha) {
  require_same_device("add_", x, y);
  TENDRIL_CHECK(is_floating(x.dtype()) || !is_floating(y.dtype()),
                "[add_] an integer tensor cannot take floating numbers; got ", x.dtype(), " and ",
                y.dtype(), "; cast one of them with to(x, dtype)");
  TENDRIL_CHECK(y.rank() <= x.rank() && broadcast_shapes("add_", x.shape(), y.shape()) == x.shape(),
                "[add_] the addend must broadcast to the tensor; got ", y.shape(), " for ",
                x.shape());
  check_arithmetic("add_", x.dtype(), alpha);
  if (x.numel() == 0) return;
  // Of memory that both share, only the same view can be read while it is written.
  const bool same_view = x.raw_data() == y.raw_data() && x.dtype() == y.dtype() &&
                         x.shape() == y.shape() && x.strides() == y.strides();
  const Tensor addend = x.storage() == y.storage() && !same_view ? clone(y) : raw(y);
  const Tensor dense = contiguous(x);
  TENDRIL_ON_DEVICE(x, add_in_place(dense, addend, alpha));
  if (!x.is_contiguous()) copy(x, dense);
}

void mul_in_place(const Tensor& x, double factor) {
  check_arithmetic("mul_", x.dtype(), factor);
  if (x.numel() == 0) return;
  const Tensor dense = contiguous(x);
  TENDRIL_ON_DEVICE(x, mul_in_place(dense, factor));
  if (!x.is_contiguous()) copy(x, dense);
}

}  // namespace tendril::ops
