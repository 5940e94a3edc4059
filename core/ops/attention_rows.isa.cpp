#include <tendril/core/cpu/vecmath.h>
#include <tendril/core/ops/attention_rows.h>

namespace tendril::cpu::TENDRIL_ISA {
namespace {

// Partial results in kLanes lanes, combined in a fixed order: fast, and the same on every run.
constexpr int kLanes = 16;

template <class T>
ISA_INLINE T larger(T a, T b) {
  return a > b ? a : b;
}

template <class T>
ISA_INLINE T scale_add_max_of(T* s, const T* add, int64_t n, T scale) {
  T lanes[kLanes];
  for (int j = 0; j < kLanes; ++j) lanes[j] = -static_cast<T>(INFINITY);
  if (add)
    for (int64_t i = 0; i < n; ++i) s[i] = s[i] * scale + add[i];
  else
    for (int64_t i = 0; i < n; ++i) s[i] = s[i] * scale;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) lanes[j] = larger(lanes[j], s[i + j]);
  for (int j = 0; i < n; ++i, ++j) lanes[j] = larger(lanes[j], s[i]);
  T result = lanes[0];
  for (int j = 1; j < kLanes; ++j) result = larger(result, lanes[j]);
  if (result == -static_cast<T>(INFINITY))  // NaN loses against a lane that holds nothing
    for (i = 0; i < n; ++i)
      if (s[i] != s[i]) return s[i];
  return result;
}

template <class T>
ISA_INLINE T exp_shifted_sum_of(T* s, int64_t n, T shift) {
  T lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) s[i] = vec::exp(s[i] - shift);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) lanes[j] += s[i + j];
  for (int j = 0; i < n; ++i, ++j) lanes[j] += s[i];
  T result = lanes[0];
  for (int j = 1; j < kLanes; ++j) result += lanes[j];
  return result;
}

template <class T>
ISA_INLINE void score_gradient_of(T* dp, const T* p, int64_t n, T delta, T scale) {
  for (int64_t i = 0; i < n; ++i) dp[i] = p[i] * (dp[i] - delta) * scale;
}

}  // namespace

float scale_add_max(float* s, const float* add, int64_t n, float scale) {
  return scale_add_max_of(s, add, n, scale);
}
double scale_add_max(double* s, const double* add, int64_t n, double scale) {
  return scale_add_max_of(s, add, n, scale);
}
float exp_shifted_sum(float* s, int64_t n, float shift) { return exp_shifted_sum_of(s, n, shift); }
double exp_shifted_sum(double* s, int64_t n, double shift) {
  return exp_shifted_sum_of(s, n, shift);
}
void scale_row(float* x, int64_t n, float factor) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}
void scale_row(double* x, int64_t n, double factor) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}
void score_gradient(float* dp, const float* p, int64_t n, float delta, float scale) {
  score_gradient_of(dp, p, n, delta, scale);
}
void score_gradient(double* dp, const double* p, int64_t n, double delta, double scale) {
  score_gradient_of(dp, p, n, delta, scale);
}

}  // namespace tendril::cpu::TENDRIL_ISA
