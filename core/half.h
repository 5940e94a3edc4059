// The two 16-bit floating-point formats, as storage types. Arithmetic happens in float.
//   bfloat16: 8 exponent bits, 7 mantissa bits (the upper half of a float)
//   float16 : 5 exponent bits, 10 mantissa bits (IEEE 754 binary16)
// Conversions round to nearest even; NaN stays NaN, overflow becomes infinity, subnormals are kept.
// On a GPU they are single instructions, which give the same bits for everything but a NaN's
// payload.
#pragma once

#include <cstdint>
#include <cstring>

#include <tendril/core/api.h>

namespace tendril {

namespace detail {

TENDRIL_HD inline uint32_t float_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

TENDRIL_HD inline float bits_float(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

TENDRIL_HD inline uint16_t bfloat16_from_float(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint16_t h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return h;
#else
  const uint32_t u = float_bits(x);
  const uint32_t rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
  const uint32_t quiet_nan = (u >> 16) | 0x40u;  // keep sign and payload, set the quiet bit
  return static_cast<uint16_t>((u & 0x7FFFFFFFu) > 0x7F800000u ? quiet_nan : rounded);
#endif
}

TENDRIL_HD inline float float_from_bfloat16(uint16_t h) { return bits_float(uint32_t{h} << 16); }

// The exponent bias differs by 112, which is subtracted from the exponent field after rounding: a
// carry out of the mantissa then moves into the exponent, as it should.
TENDRIL_HD inline uint16_t float16_from_float(float x) {
#ifdef __CUDA_ARCH__
  uint16_t h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return h;
#else
  const uint32_t u = float_bits(x);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t magnitude = u & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u | ((u >> 13) & 0x3FFu));
  if (magnitude >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);  // >= 65520 -> inf
  if (magnitude >= 0x38800000u) {                                              // normal range
    const uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
  if (magnitude < 0x33000000u) return static_cast<uint16_t>(sign);  // below half of the smallest
  // Subnormal result: shift the 24-bit significand right, rounding to nearest even.
  const uint32_t exponent = magnitude >> 23;
  const uint32_t significand = (magnitude & 0x7FFFFFu) | 0x800000u;
  const uint32_t shift = 126u - exponent;
  const uint32_t kept = significand >> shift;
  const uint32_t rest = significand & ((1u << shift) - 1u);
  const uint32_t half = 1u << (shift - 1u);
  return static_cast<uint16_t>(sign | (kept + (rest > half || (rest == half && (kept & 1u)))));
#endif
}

TENDRIL_HD inline float float_from_float16(uint16_t h) {
#ifdef __CUDA_ARCH__
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
  return x;
#else
  const uint32_t sign = uint32_t{h & 0x8000u} << 16;
  const uint32_t exponent = (h >> 10) & 0x1Fu;
  const uint32_t mantissa = h & 0x3FFu;
  if (exponent == 31u) return bits_float(sign | 0x7F800000u | (mantissa << 13));
  if (exponent != 0u) return bits_float(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // 2^-24, exact
  return bits_float(sign | float_bits(magnitude));
#endif
}

}  // namespace detail

struct bfloat16 {
  uint16_t bits = 0;
  bfloat16() = default;
  TENDRIL_HD explicit bfloat16(float x) : bits(detail::bfloat16_from_float(x)) {}
  TENDRIL_HD operator float() const { return detail::float_from_bfloat16(bits); }
};

struct float16 {
  uint16_t bits = 0;
  float16() = default;
  TENDRIL_HD explicit float16(float x) : bits(detail::float16_from_float(x)) {}
  TENDRIL_HD operator float() const { return detail::float_from_float16(bits); }
};

}  // namespace tendril
