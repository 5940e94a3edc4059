#include <tendril/core/ops/norm_rows.h>

#include <tendril/core/cpu/lanes.h>

namespace tendril::cpu::TENDRIL_ISA {

// Two passes over a row that is in the cache: E[x^2] - E[x]^2 would lose all digits of a small
// variance.
template <class T>
ISA_INLINE RowMoments<T> layer_forward(const T* x, const T* weight, const T* bias, T* y, int64_t n,
                                       double eps) {
  const T mean = sum_of<T>(n, [=](int64_t i) LANES_VALUE { return x[i]; }) / static_cast<T>(n);
  const T squares =
      sum_of<T>(n, [=](int64_t i) LANES_VALUE { return (x[i] - mean) * (x[i] - mean); });
  const T rstd =
      static_cast<T>(1.0 / std::sqrt(static_cast<double>(squares) / static_cast<double>(n) + eps));
  for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * rstd * weight[i] + bias[i];
  return {mean, rstd};
}

// With h = (x - mean) rstd and m = g weight: dx = rstd (m - mean(m) - h mean(m h)).
template <class T>
ISA_INLINE void layer_gradient(const T* g, const T* x, const T* weight, RowMoments<T> moments,
                               T* dx, T* dweight, T* dbias, int64_t n) {
  const T mean = moments.mean, rstd = moments.rstd;
  const T mean_m =
      sum_of<T>(n, [=](int64_t i) LANES_VALUE { return g[i] * weight[i]; }) / static_cast<T>(n);
  const T mean_mh =
      sum_of<T>(n,
                [=](int64_t i) LANES_VALUE { return g[i] * weight[i] * ((x[i] - mean) * rstd); }) /
      static_cast<T>(n);
  for (int64_t i = 0; i < n; ++i) {
    const T h = (x[i] - mean) * rstd, gradient = g[i];
    dweight[i] += gradient * h;
    dbias[i] += gradient;
    dx[i] = rstd * (gradient * weight[i] - mean_m - h * mean_mh);
  }
}

template <class T>
ISA_INLINE T rms_forward(const T* x, const T* weight, T* y, int64_t n, double eps) {
  const T squares = sum_of<T>(n, [=](int64_t i) LANES_VALUE { return x[i] * x[i]; });
  const T rstd =
      static_cast<T>(1.0 / std::sqrt(static_cast<double>(squares) / static_cast<double>(n) + eps));
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * rstd * weight[i];
  return rstd;
}

// With h = x rstd and m = g weight: dx = rstd (m - h mean(m h)).
template <class T>
ISA_INLINE void rms_gradient(const T* g, const T* x, const T* weight, T rstd, T* dx, T* dweight,
                             int64_t n) {
  const T mean_mh =
      sum_of<T>(n, [=](int64_t i) LANES_VALUE { return g[i] * weight[i] * (x[i] * rstd); }) /
      static_cast<T>(n);
  for (int64_t i = 0; i < n; ++i) {
    const T h = x[i] * rstd, gradient = g[i];
    dweight[i] += gradient * h;
    dx[i] = rstd * (gradient * weight[i] - h * mean_mh);
  }
}

RowMoments<float> layer_norm_row(const float* x, const float* weight, const float* bias, float* y,
                                 int64_t n, double eps) {
  return layer_forward(x, weight, bias, y, n, eps);
}
RowMoments<double> layer_norm_row(const double* x, const double* weight, const double* bias,
                                  double* y, int64_t n, double eps) {
  return layer_forward(x, weight, bias, y, n, eps);
}
void layer_norm_row_backward(const float* g, const float* x, const float* weight,
                             RowMoments<float> moments, float* dx, float* dweight, float* dbias,
                             int64_t n) {
  layer_gradient(g, x, weight, moments, dx, dweight, dbias, n);
}
void layer_norm_row_backward(const double* g, const double* x, const double* weight,
                             RowMoments<double> moments, double* dx, double* dweight, double* dbias,
                             int64_t n) {
  layer_gradient(g, x, weight, moments, dx, dweight, dbias, n);
}
float rms_norm_row(const float* x, const float* weight, float* y, int64_t n, double eps) {
  return rms_forward(x, weight, y, n, eps);
}
double rms_norm_row(const double* x, const double* weight, double* y, int64_t n, double eps) {
  return rms_forward(x, weight, y, n, eps);
}
void rms_norm_row_backward(const float* g, const float* x, const float* weight, float rstd,
                           float* dx, float* dweight, int64_t n) {
  rms_gradient(g, x, weight, rstd, dx, dweight, n);
}
void rms_norm_row_backward(const double* g, const double* x, const double* weight, double rstd,
                           double* dx, double* dweight, int64_t n) {
  rms_gradient(g, x, weight, rstd, dx, dweight, n);
}

}  // namespace tendril::cpu::TENDRIL_ISA
