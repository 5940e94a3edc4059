// Private to core: the rules of optimizer_step.h for one element, on the CPU as on a GPU, and the
// CPU's loops over them, compiled once per instruction set.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/cpu/vecmath.h>

namespace tendril::cpu {

// Everything that is the same for all elements, computed in double and rounded once.
template <class T>
struct AdamWCoefficients {
  T sign;   // -1 when maximizing
  T decay;  // lr * weight_decay
  T l2;
  T new_mean;      // 1 - beta1
  T old_square;    // beta2
  T new_square;    // 1 - beta2
  T inverse_root;  // 1 / sqrt(1 - beta2^t)
  T eps;
  T step_size;  // lr / (1 - beta1^t)
};

template <class T>
struct SgdCoefficients {
  T sign;
  T decay;  // weight_decay
  T momentum;
  T new_gradient;  // 1 - dampening, or 1 at the first step
  T step_size;     // lr
  bool nesterov;
};

/// The new parameter; the mean m, the square v and with AMSGrad its largest value change in place.
template <bool kAmsGrad, class T>
VEC_INLINE T adamw_element(T p, T g, T& m, T& v, T& vmax, const AdamWCoefficients<T>& c) {
  const T gradient = c.sign * g + c.l2 * p;
  const T value = p - c.decay * p;
  m = m + c.new_mean * (gradient - m);
  v = c.old_square * v + c.new_square * gradient * gradient;
  T used = v;
  if constexpr (kAmsGrad) used = vmax = vmax > v ? vmax : v;
  return value - c.step_size * m / (std::sqrt(used) * c.inverse_root + c.eps);
}

/// The new parameter; the momentum buffer changes in place.
template <bool kMomentum, class T>
VEC_INLINE T sgd_element(T p, T g, T& buffer, const SgdCoefficients<T>& c) {
  T direction = c.sign * g + c.decay * p;
  if constexpr (kMomentum) {
    buffer = c.momentum * buffer + c.new_gradient * direction;
    const T from_gradient = c.nesterov ? T(1) : T(0);
    const T from_buffer = c.nesterov ? c.momentum : T(1);
    direction = from_gradient * direction + from_buffer * buffer;
  }
  return p - c.step_size * direction;
}

/// The bits of a bf16: x away from zero where the part that goes plus the lower half of the random
/// word carries. Infinity and NaN stay, and a finite number never becomes infinite.
VEC_INLINE uint16_t round_at_random(float x, uint32_t word) {
  constexpr uint32_t kExponent = 0x7F800000u;
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t carried = bits + (word & 0xFFFFu);
  const bool finite = (bits & kExponent) != kExponent;
  const uint32_t rounded = finite && (carried & kExponent) != kExponent ? carried : bits;
  const uint32_t quiet = (bits & 0x7FFFFFFFu) > kExponent ? 0x40u : 0u;
  return static_cast<uint16_t>(rounded >> 16 | quiet);
}

}  // namespace tendril::cpu

// vmax may be null.
TENDRIL_DECLARE_ISA(void adamw_block(int64_t n, float* p, const float* g, float* m, float* v,
                                     float* vmax, const AdamWCoefficients<float>& c))
TENDRIL_DECLARE_ISA(void adamw_block(int64_t n, double* p, const double* g, double* m, double* v,
                                     double* vmax, const AdamWCoefficients<double>& c))
// buffer may be null.
TENDRIL_DECLARE_ISA(void sgd_block(int64_t n, float* p, const float* g, float* buffer,
                                   const SgdCoefficients<float>& c))
TENDRIL_DECLARE_ISA(void sgd_block(int64_t n, double* p, const double* g, double* buffer,
                                   const SgdCoefficients<double>& c))
TENDRIL_DECLARE_ISA(double square_sum_block(int64_t n, const float* x))
TENDRIL_DECLARE_ISA(double square_sum_block(int64_t n, const double* x))

// bf16 as bits. widen: y = x; narrow: y = x, rounded to nearest even; follow: x = y wherever x does
// not round to y; round: y = x, each by round_at_random().
TENDRIL_DECLARE_ISA(void widen_bf16_block(int64_t n, const uint16_t* x, float* y))
TENDRIL_DECLARE_ISA(void narrow_bf16_block(int64_t n, const float* x, uint16_t* y))
TENDRIL_DECLARE_ISA(void follow_bf16_block(int64_t n, float* x, const uint16_t* y))
TENDRIL_DECLARE_ISA(void round_bf16_block(int64_t n, const float* x, const uint32_t* words,
                                          uint16_t* y))
