#include <tendril/core/ops/norm_rows.h>

#include <tendril/core/cpu/lanes.h>

namespace tendril::cpu::TENDRIL_ISA {

template <class T>
ISA_INLINE T inverse_root(T squares, int64_t n, double eps) {
  return static_cast<T>(1.0 /
                        std::sqrt(static_cast<double>(squares) / static_cast<double>(n) + eps));
}

// Two passes over a row in the cache: E[x^2] - E[x]^2 would lose the digits of a small variance.
template <class T>
RowMoments<T> layer_norm_row(const T* x, const T* weight, const T* bias, T* __restrict y, int64_t n,
                             double eps) {
  const T mean = sum_of<T>(n, [=](int64_t i) LANES_VALUE { return x[i]; }) / static_cast<T>(n);
  const T squares =
      sum_of<T>(n, [=](int64_t i) LANES_VALUE { return (x[i] - mean) * (x[i] - mean); });
  const T rstd = inverse_root(squares, n, eps);
  for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * rstd * weight[i] + bias[i];
  return {mean, rstd};
}

// With h = (x - mean) rstd and m = g weight: dx = rstd (m - mean(m) - h mean(m h)).
template <class T>
void layer_norm_row_backward(const T* g, const T* x, const T* weight, RowMoments<T> moments,
                             T* __restrict dx, T* __restrict dweight, T* __restrict dbias,
                             int64_t n) {
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
T rms_norm_row(const T* x, const T* weight, T* __restrict y, int64_t n, double eps) {
  const T squares = sum_of<T>(n, [=](int64_t i) LANES_VALUE { return x[i] * x[i]; });
  const T rstd = inverse_root(squares, n, eps);
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * rstd * weight[i];
  return rstd;
}

// With h = x rstd and m = g weight: dx = rstd (m - h mean(m h)).
template <class T>
void rms_norm_row_backward(const T* g, const T* x, const T* weight, T rstd, T* __restrict dx,
                           T* __restrict dweight, int64_t n) {
  const T mean_mh =
      sum_of<T>(n, [=](int64_t i) LANES_VALUE { return g[i] * weight[i] * (x[i] * rstd); }) /
      static_cast<T>(n);
  for (int64_t i = 0; i < n; ++i) {
    const T h = x[i] * rstd, gradient = g[i];
    dweight[i] += gradient * h;
    dx[i] = rstd * (gradient * weight[i] - h * mean_mh);
  }
}

template RowMoments<float> layer_norm_row(const float*, const float*, const float*, float*, int64_t,
                                          double);
template RowMoments<double> layer_norm_row(const double*, const double*, const double*, double*,
                                           int64_t, double);
template void layer_norm_row_backward(const float*, const float*, const float*, RowMoments<float>,
                                      float*, float*, float*, int64_t);
template void layer_norm_row_backward(const double*, const double*, const double*,
                                      RowMoments<double>, double*, double*, double*, int64_t);
template float rms_norm_row(const float*, const float*, float*, int64_t, double);
template double rms_norm_row(const double*, const double*, double*, int64_t, double);
template void rms_norm_row_backward(const float*, const float*, const float*, float, float*, float*,
                                    int64_t);
template void rms_norm_row_backward(const double*, const double*, const double*, double, double*,
                                    double*, int64_t);

}  // namespace tendril::cpu::TENDRIL_ISA
