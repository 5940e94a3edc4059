#include <tendril/core/ops/functors.h>
#include <tendril/core/ops/pointwise_kernels.h>

namespace tendril::cpu::TENDRIL_ISA {
namespace {

using namespace tendril::ops;

// Blocks may alias element by element (in-place accumulation), hence ivdep instead of restrict.
template <class F, class T>
void unary_value(int64_t n, const T* const* in, T* out, double) {
  const T* x = in[0];
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = F::value(x[i]);
}

template <class F, class T>
void unary_grad(int64_t n, const T* const* in, T* out, double) {
  const T *s = in[0], *g = in[1];
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = F::grad(s[i], g[i]);
}

template <class F, class T>
void unary1_value(int64_t n, const T* const* in, T* out, double parameter) {
  const T* x = in[0];
  const T p = parameter_as<T>(parameter);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = F::value(x[i], p);
}

template <class F, class T>
void unary1_grad(int64_t n, const T* const* in, T* out, double parameter) {
  const T *s = in[0], *g = in[1];
  const T p = parameter_as<T>(parameter);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = F::grad(s[i], g[i], p);
}

template <class F, class T>
void binary_value(int64_t n, const T* const* in, T* out, double) {
  const T *a = in[0], *b = in[1];
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(F::value(a[i], b[i]));
}

template <class F, class T>
void binary_grad_a(int64_t n, const T* const* in, T* out, double) {
  const T *a = in[0], *b = in[1], *g = in[2];
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = F::grad_a(a[i], b[i], g[i]);
}

template <class F, class T>
void binary_grad_b(int64_t n, const T* const* in, T* out, double) {
  const T *a = in[0], *b = in[1], *g = in[2];
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = F::grad_b(a[i], b[i], g[i]);
}

template <class T>
void select(int64_t n, const T* const* in, T* out, double) {
  const T *condition = in[0], *a = in[1], *b = in[2];
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = condition[i] != T(0) ? a[i] : b[i];
}

// What the last columns of ops.def mean for the table: Number ops also exist for integers.
#define VALUES_Real(loop, F) \
  { loop<F, float>, loop<F, double>, nullptr }
#define VALUES_Number(loop, F) \
  { loop<F, float>, loop<F, double>, loop<F, int64_t> }
#define GRADS(loop, F) \
  { loop<F, float>, loop<F, double>, nullptr }

}  // namespace

BlockKernel pointwise_kernel(Op op, Part part) {
  switch (op) {
#define UNARY(op, F, kind, ...)                                    \
  case Op::op:                                                     \
    if (part == Part::value) return VALUES_##kind(unary_value, F); \
    return GRADS(unary_grad, F);
#define UNARY1(op, F, kind, ...)                                    \
  case Op::op:                                                      \
    if (part == Part::value) return VALUES_##kind(unary1_value, F); \
    return GRADS(unary1_grad, F);
#define UNARY_NONDIFF(op, F, kind, why) \
  case Op::op:                          \
    return VALUES_##kind(unary_value, F);
#define BINARY(op, F, kind, ...)                                    \
  case Op::op:                                                      \
    if (part == Part::value) return VALUES_##kind(binary_value, F); \
    if (part == Part::grad) return GRADS(binary_grad_a, F);         \
    return GRADS(binary_grad_b, F);
#define COMPARE(op, F) \
  case Op::op:         \
    return VALUES_Number(binary_value, F);
#include <tendril/core/ops/ops.def>
    case Op::where:
      return {select<float>, select<double>, select<int64_t>};
    default:
      return {};
  }
}

}  // namespace tendril::cpu::TENDRIL_ISA
