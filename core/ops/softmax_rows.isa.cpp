#include <tendril/core/ops/softmax_rows.h>

#include <tendril/core/cpu/lanes.h>
#include <tendril/core/cpu/vecmath.h>

namespace tendril::cpu::TENDRIL_ISA {

// Long rows (a vocabulary) are summed in blocks whose float sums meet in a double.
constexpr int64_t kBlock = 512;

template <class T>
ISA_INLINE double exponential_sum(const T* x, int64_t n, T maximum) {
  double total = 0.0;
  T block[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t count = n - begin < kBlock ? n - begin : kBlock;
    for (int64_t i = 0; i < count; ++i) block[i] = vec::exp(x[begin + i] - maximum);
    total += sum_of<T>(count, [&](int64_t i) LANES_VALUE { return block[i]; });
  }
  return total;
}

template <class T>
ISA_INLINE double blocked_total(const T* x, int64_t n) {
  double total = 0.0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t count = n - begin < kBlock ? n - begin : kBlock;
    total += sum_of<T>(count, [=](int64_t i) LANES_VALUE { return x[begin + i]; });
  }
  return total;
}

template <class T>
ISA_INLINE void softmax_forward(const T* x, T* y, int64_t n) {
  const T maximum = max_of(x, n);
  for (int64_t i = 0; i < n; ++i) y[i] = vec::exp(x[i] - maximum);
  const T factor = static_cast<T>(1.0 / blocked_total(y, n));
  for (int64_t i = 0; i < n; ++i) y[i] *= factor;
}

template <class T>
ISA_INLINE void softmax_gradient(const T* g, const T* y, T* dx, int64_t n) {
  const T dot = sum_of<T>(n, [=](int64_t i) LANES_VALUE { return g[i] * y[i]; });
  for (int64_t i = 0; i < n; ++i) dx[i] = y[i] * (g[i] - dot);
}

template <class T>
ISA_INLINE void log_softmax_forward(const T* x, T* y, int64_t n) {
  const T maximum = max_of(x, n);
  const T log_sum = static_cast<T>(vec::log(exponential_sum(x, n, maximum)));
  for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - maximum) - log_sum;
}

template <class T>
ISA_INLINE void log_softmax_gradient(const T* g, const T* y, T* dx, int64_t n) {
  const T total = static_cast<T>(blocked_total(g, n));
  for (int64_t i = 0; i < n; ++i) dx[i] = g[i] - vec::exp(y[i]) * total;
}

template <class T>
ISA_INLINE RowExponentials exponentials(const T* x, int64_t n) {
  const T maximum = max_of(x, n);
  return {maximum, exponential_sum(x, n, maximum)};
}

template <class T>
ISA_INLINE void probabilities(const T* x, T* p, int64_t n, double logsumexp, double subtract,
                              double factor) {
  // In two parts: a float alone cannot hold a logsumexp of 1e4 to better than 1e-3.
  const T high = static_cast<T>(logsumexp), low = static_cast<T>(logsumexp - high);
  const T offset = static_cast<T>(subtract), scale = static_cast<T>(factor);
  for (int64_t i = 0; i < n; ++i) p[i] = scale * (vec::exp((x[i] - high) - low) - offset);
}

void softmax_row(const float* x, float* y, int64_t n) { softmax_forward(x, y, n); }
void softmax_row(const double* x, double* y, int64_t n) { softmax_forward(x, y, n); }
void softmax_row_backward(const float* g, const float* y, float* dx, int64_t n) {
  softmax_gradient(g, y, dx, n);
}
void softmax_row_backward(const double* g, const double* y, double* dx, int64_t n) {
  softmax_gradient(g, y, dx, n);
}
void log_softmax_row(const float* x, float* y, int64_t n) { log_softmax_forward(x, y, n); }
void log_softmax_row(const double* x, double* y, int64_t n) { log_softmax_forward(x, y, n); }
void log_softmax_row_backward(const float* g, const float* y, float* dx, int64_t n) {
  log_softmax_gradient(g, y, dx, n);
}
void log_softmax_row_backward(const double* g, const double* y, double* dx, int64_t n) {
  log_softmax_gradient(g, y, dx, n);
}
RowExponentials row_exponentials(const float* x, int64_t n) { return exponentials(x, n); }
RowExponentials row_exponentials(const double* x, int64_t n) { return exponentials(x, n); }
double row_total(const float* x, int64_t n) { return blocked_total(x, n); }
double row_total(const double* x, int64_t n) { return blocked_total(x, n); }
void row_probabilities(const float* x, float* p, int64_t n, double logsumexp, double subtract,
                       double factor) {
  probabilities(x, p, n, logsumexp, subtract, factor);
}
void row_probabilities(const double* x, double* p, int64_t n, double logsumexp, double subtract,
                       double factor) {
  probabilities(x, p, n, logsumexp, subtract, factor);
}

}  // namespace tendril::cpu::TENDRIL_ISA
