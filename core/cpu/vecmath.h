// Elementary functions that the compiler vectorises: branch-free polynomials for float, the
// standard library for double, the device's own functions under nvcc. Largest errors over the whole
// domain (tests/test_vecmath.cpp): exp 2 ulp, log 2 ulp, tanh 3 ulp, erf 3 ulp, sigmoid 3 ulp.
//
// The polynomials are minimax fits to the functions on the reduced ranges named beside them.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include <tendril/core/api.h>

#define VEC_INLINE TENDRIL_HD inline __attribute__((always_inline))

namespace tendril::vec {

VEC_INLINE double exp(double x) { return std::exp(x); }
VEC_INLINE double log(double x) { return std::log(x); }
VEC_INLINE double tanh(double x) { return std::tanh(x); }
VEC_INLINE double erf(double x) { return std::erf(x); }
VEC_INLINE double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

#ifdef __CUDA_ARCH__

VEC_INLINE float exp(float x) { return ::expf(x); }
VEC_INLINE float log(float x) { return ::logf(x); }
VEC_INLINE float tanh(float x) { return ::tanhf(x); }
VEC_INLINE float erf(float x) { return ::erff(x); }
// The exact division would cost more than the rest; this one is 2 ulp off at most.
VEC_INLINE float sigmoid(float x) { return __fdividef(1.0f, 1.0f + ::expf(-x)); }

#else

namespace detail {
VEC_INLINE float power_of_two(int32_t n) {
  return __builtin_bit_cast(float, (static_cast<uint32_t>(n) + 127u) << 23);
}
VEC_INLINE float with_sign_of(float magnitude, float sign) {
  return __builtin_bit_cast(float, (__builtin_bit_cast(uint32_t, magnitude) & 0x7FFFFFFFu) |
                                       (__builtin_bit_cast(uint32_t, sign) & 0x80000000u));
}
VEC_INLINE float magnitude(float x) {
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, x) & 0x7FFFFFFFu);
}
}  // namespace detail

// x = n ln 2 + r with |r| <= ln 2 / 2; e^x = 2^n (1 + r + r^2 p(r)).
VEC_INLINE float exp(float x) {
  x = x > 89.0f ? 89.0f : x;      // e^89 overflows to infinity below
  x = x < -104.0f ? -104.0f : x;  // e^-104 rounds to 0; a NaN passes both comparisons
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits; for NaN the bits are
  // harmless.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const int32_t exponent =
      static_cast<int32_t>(__builtin_bit_cast(uint32_t, shifted) - 0x4B400000u);
  const float r =
      (x - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts, the first exact
  float p = 0.0013950540451332927f;
  p = p * r + 0.008368917740881443f;
  p = p * r + 0.04166620597243309f;
  p = p * r + 0.166665181517601f;
  p = p * r + 0.5f;
  const float y = p * (r * r) + r + 1.0f;
  // 2^n in two factors: each is a normal number although 2^n may be subnormal or 2^128.
  const int32_t half = exponent >> 1;
  return y * detail::power_of_two(half) * detail::power_of_two(exponent - half);
}

// x = 2^n m with m in [sqrt(1/2), sqrt(2)); log x = n ln 2 + f - f^2/2 + f^3 p(f), f = m - 1.
VEC_INLINE float log(float x) {
  const bool subnormal = x < 1.17549435e-38f;
  const float scaled = subnormal ? x * 8388608.0f : x;
  const uint32_t bits =
      __builtin_bit_cast(uint32_t, scaled);  // unsigned: a negative x may wrap, its log is NaN
  const int32_t exponent = static_cast<int32_t>(bits - 0x3F3504F3u) >> 23;
  const float f = __builtin_bit_cast(float, bits - (static_cast<uint32_t>(exponent) << 23)) - 1.0f;
  const float n = static_cast<float>(exponent) - (subnormal ? 23.0f : 0.0f);
  float p = 0.06915424764156342f;
  p = p * f - 0.1178983524441719f;
  p = p * f + 0.11872965842485428f;
  p = p * f - 0.12384343147277832f;
  p = p * f + 0.14218658208847046f;
  p = p * f - 0.16669251024723053f;
  p = p * f + 0.20002226531505585f;
  p = p * f - 0.24999986588954926f;
  p = p * f + 0.3333331048488617f;
  const float square = f * f;
  float y = (p * f * square - n * 2.12194440e-4f) - 0.5f * square + f + n * 0.693359375f;
  y = x == 0.0f ? -INFINITY : y;
  y = x < 0.0f ? NAN : y;
  return x < INFINITY ? y : x;  // +inf and NaN are their own logarithms
}

// |x| < 0.625: x + x^3 p(x^2); else 1 - 2 / (e^(2|x|) + 1).
VEC_INLINE float tanh(float x) {
  const float a = detail::magnitude(x);
  const float z = x * x;
  float p = -0.005717044696211815f;
  p = p * z + 0.020650586113333702f;
  p = p * z - 0.05374349653720856f;
  p = p * z + 0.13331490755081177f;
  p = p * z - 0.3333328366279602f;
  const float small = x + x * (z * p);
  const float large = 1.0f - 2.0f / (exp(a + a) + 1.0f);
  return a < 0.625f ? small : detail::with_sign_of(large, x);
}

// |x| < 1: x p(x^2); else 1 - e^q(|x|), where q fits log erfc on [1, 4].
VEC_INLINE float erf(float x) {
  const float a = detail::magnitude(x);
  const float z = x * x;
  float p = -9.680140465206932e-06f;
  p = p * z + 0.00011270545656861497f;
  p = p * z - 0.0008484711870551109f;
  p = p * z + 0.005221074912697077f;
  p = p * z - 0.02686544507741928f;
  p = p * z + 0.11283782869577408f;
  p = p * z - 0.37612637877464294f;
  p = p * z + 1.128379225730896f;
  const float b = a > 4.0f ? 4.0f : a;
  float q = -2.1697585907531902e-05f;
  q = q * b + 0.0004414722789078951f;
  q = q * b - 0.004205282777547836f;
  q = q * b + 0.025210333988070488f;
  q = q * b - 0.10842208564281464f;
  q = q * b - 0.633216381072998f;
  q = q * b - 1.1295802593231201f;
  q = q * b + 0.00018846649618353695f;
  const float large = detail::with_sign_of(1.0f - exp(q), x);
  return a < 1.0f ? x * p : large;
}

VEC_INLINE float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

#endif

}  // namespace tendril::vec
