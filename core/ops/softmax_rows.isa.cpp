#include <tendril/core/ops/softmax_rows.h>

#include <tendril/core/cpu/lanes.h>
#include <tendril/core/cpu/vecmath.h>

namespace tendril::cpu::TENDRIL_ISA {

// Long rows (a vocabulary) are summed in pieces whose float sums meet in a double.
constexpr int64_t kPiece = 512;

template <class T>
ISA_INLINE double exponential_sum(const T* x, int64_t n, T maximum) {
  double total = 0.0;
  T piece[kPiece];
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t count = n - begin < kPiece ? n - begin : kPiece;
    for (int64_t i = 0; i < count; ++i) piece[i] = vec::exp(x[begin + i] - maximum);
    total += sum_of<T>(count, [&](int64_t i) LANES_VALUE { return piece[i]; });
  }
  return total;
}

template <class T>
ISA_INLINE double total_of(const T* x, int64_t n) {
  double total = 0.0;
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t count = n - begin < kPiece ? n - begin : kPiece;
    total += sum_of<T>(count, [=](int64_t i) LANES_VALUE { return x[begin + i]; });
  }
  return total;
}

template <class T>
void softmax_row(const T* x, T* __restrict y, int64_t n) {
  const T maximum = max_of(x, n);
  for (int64_t i = 0; i < n; ++i) y[i] = vec::exp(x[i] - maximum);
  const T factor = static_cast<T>(1.0 / total_of(y, n));
  for (int64_t i = 0; i < n; ++i) y[i] *= factor;
}

template <class T>
void softmax_row_backward(const T* g, const T* y, T* __restrict dx, int64_t n) {
  const T dot = sum_of<T>(n, [=](int64_t i) LANES_VALUE { return g[i] * y[i]; });
  for (int64_t i = 0; i < n; ++i) dx[i] = y[i] * (g[i] - dot);
}

template <class T>
void log_softmax_row(const T* x, T* __restrict y, int64_t n) {
  const T maximum = max_of(x, n);
  const T log_sum = static_cast<T>(vec::log(exponential_sum(x, n, maximum)));
  for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - maximum) - log_sum;
}

template <class T>
void log_softmax_row_backward(const T* g, const T* y, T* __restrict dx, int64_t n) {
  const T total = static_cast<T>(total_of(g, n));
  for (int64_t i = 0; i < n; ++i) dx[i] = g[i] - vec::exp(y[i]) * total;
}

template <class T>
RowExponentials row_exponentials(const T* x, int64_t n) {
  const T maximum = max_of(x, n);
  return {maximum, exponential_sum(x, n, maximum)};
}

template <class T>
RowExponentials row_exponentials_in_place(T* x, int64_t n) {
  const T maximum = max_of(x, n);
  const T shift = maximum > -INFINITY ? maximum : T(0);  // -inf less -inf would be NaN
  for (int64_t i = 0; i < n; ++i) x[i] = vec::exp(x[i] - shift);
  return {maximum, total_of(x, n)};
}

template <class T>
void row_affine_in_place(T* x, int64_t n, double scale, double offset) {
  const T factor = static_cast<T>(scale), subtract = static_cast<T>(offset);
  for (int64_t i = 0; i < n; ++i) x[i] = factor * x[i] - subtract;
}

template <class T>
double row_total(const T* x, int64_t n) {
  return total_of(x, n);
}

template <class T>
void row_probabilities(const T* x, T* __restrict p, int64_t n, double logsumexp, double subtract,
                       double factor) {
  // In two parts: a float alone cannot hold a logsumexp of 1e4 to better than 1e-3.
  const T high = static_cast<T>(logsumexp), low = static_cast<T>(logsumexp - high);
  const T offset = static_cast<T>(subtract), scale = static_cast<T>(factor);
  for (int64_t i = 0; i < n; ++i) p[i] = scale * (vec::exp((x[i] - high) - low) - offset);
}

template void softmax_row(const float*, float*, int64_t);
template void softmax_row(const double*, double*, int64_t);
template void softmax_row_backward(const float*, const float*, float*, int64_t);
template void softmax_row_backward(const double*, const double*, double*, int64_t);
template void log_softmax_row(const float*, float*, int64_t);
template void log_softmax_row(const double*, double*, int64_t);
template void log_softmax_row_backward(const float*, const float*, float*, int64_t);
template void log_softmax_row_backward(const double*, const double*, double*, int64_t);
template RowExponentials row_exponentials(const float*, int64_t);
template RowExponentials row_exponentials(const double*, int64_t);
template RowExponentials row_exponentials_in_place(float*, int64_t);
template RowExponentials row_exponentials_in_place(double*, int64_t);
template void row_affine_in_place(float*, int64_t, double, double);
template void row_affine_in_place(double*, int64_t, double, double);
template double row_total(const float*, int64_t);
template double row_total(const double*, int64_t);
template void row_probabilities(const float*, float*, int64_t, double, double, double);
template void row_probabilities(const double*, double*, int64_t, double, double, double);

}  // namespace tendril::cpu::TENDRIL_ISA
