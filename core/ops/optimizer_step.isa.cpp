// Inner loops of the optimizers, once per instruction set.
#include <tendril/core/ops/optimizer_kernels.h>

namespace tendril::cpu::TENDRIL_ISA {
namespace {

template <bool kAmsGrad, class T>
ISA_INLINE void adamw(int64_t n, T* p, const T* g, T* m, T* v, T* vmax,
                      const AdamWCoefficients<T> c) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    T mean = m[i], square = v[i], largest = kAmsGrad ? vmax[i] : T(0);
    p[i] = adamw_element<kAmsGrad>(p[i], g[i], mean, square, largest, c);
    m[i] = mean;
    v[i] = square;
    if constexpr (kAmsGrad) vmax[i] = largest;
  }
}

template <bool kMomentum, class T>
ISA_INLINE void sgd(int64_t n, T* p, const T* g, T* buffer, const SgdCoefficients<T> c) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    T velocity = kMomentum ? buffer[i] : T(0);
    p[i] = sgd_element<kMomentum>(p[i], g[i], velocity, c);
    if constexpr (kMomentum) buffer[i] = velocity;
  }
}

// Sixteen partial sums: enough for the registers, and the same order for every instruction set.
template <class T>
ISA_INLINE double square_sum(int64_t n, const T* x) {
  constexpr int kLanes = 16;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) {
      const double value = x[i + k];
      lanes[k] += value * value;
    }
  for (int k = 0; i < n; ++i, ++k) lanes[k] += static_cast<double>(x[i]) * x[i];
  double total = 0.0;
  for (int k = 0; k < kLanes; ++k) total += lanes[k];
  return total;
}

// The conversions of core/half.h, which must not be emitted here.
ISA_INLINE float widen(uint16_t x) { return __builtin_bit_cast(float, uint32_t{x} << 16); }
ISA_INLINE uint16_t narrow(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? (bits >> 16) | 0x40u : rounded);
}

}  // namespace

void adamw_block(int64_t n, float* p, const float* g, float* m, float* v, float* vmax,
                 const AdamWCoefficients<float>& c) {
  vmax ? adamw<true>(n, p, g, m, v, vmax, c) : adamw<false>(n, p, g, m, v, vmax, c);
}
void adamw_block(int64_t n, double* p, const double* g, double* m, double* v, double* vmax,
                 const AdamWCoefficients<double>& c) {
  vmax ? adamw<true>(n, p, g, m, v, vmax, c) : adamw<false>(n, p, g, m, v, vmax, c);
}
void sgd_block(int64_t n, float* p, const float* g, float* buffer,
               const SgdCoefficients<float>& c) {
  buffer ? sgd<true>(n, p, g, buffer, c) : sgd<false>(n, p, g, buffer, c);
}
void sgd_block(int64_t n, double* p, const double* g, double* buffer,
               const SgdCoefficients<double>& c) {
  buffer ? sgd<true>(n, p, g, buffer, c) : sgd<false>(n, p, g, buffer, c);
}
double square_sum_block(int64_t n, const float* x) { return square_sum(n, x); }
double square_sum_block(int64_t n, const double* x) { return square_sum(n, x); }

void widen_bf16_block(int64_t n, const uint16_t* x, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = widen(x[i]);
}
void narrow_bf16_block(int64_t n, const float* x, uint16_t* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = narrow(x[i]);
}
void follow_bf16_block(int64_t n, float* x, const uint16_t* y) {
  for (int64_t i = 0; i < n; ++i) x[i] = narrow(x[i]) == y[i] ? x[i] : widen(y[i]);
}
void round_bf16_block(int64_t n, const float* x, const uint32_t* words, uint16_t* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = round_at_random(x[i], words[i]);
}

}  // namespace tendril::cpu::TENDRIL_ISA
