// Private to core: one number to its 8-bit code and back by formulas, on the CPU as on a GPU. They
// give what the loops of quantized_codes.h give, to the bit.
#pragma once

#include <cmath>
#include <cstdint>

#include <tendril/core/cpu/vecmath.h>

namespace tendril::cpu {

// A map of codes. Level j is the j-th code from 0 upwards, its place J = j + first_place. Decade b
// (of b = 0 .. 6) has the places from P = 2^b, or 2^(b+1) without a sign, to 2 P - 1; there
//   level = (18 J + 9 - 16 P) / D,  D = 2^8 5^(7-b), or twice that without a sign,
// and the border below place J is (18 J - 16 P) / D. The border between two decades lies 18 / D
// above that, and the highest level, 1, is decade 7. All numerators and denominators are integers
// that a float can hold.
struct CodeFormulas {
  int32_t zero;         // the code of 0, and of level 0
  int32_t first_place;  // 0, or 1 without a sign

  // From codes. By the exponent of J as a float, 127 + log2 P, modulo 8:
  // level = (18 J + offset) * unit.
  float offset[8], unit[8];

  // To codes. The decade by three steps of a search: the largest magnitude that belongs to the
  // decades below 4; below 2 or 6; below 1, 3, 5 or 7, by the decade so far.
  float middle, outer[8], odd[8];
  // By decade: D; 16 P - 18 (first_place + 1); the highest level (the lowest byte of a float of
  // about 1.5 * 2^23).
  float inverse[8], origin[8], last[8];
  float least;  // level 1
};

// A float from 2^23 to 2^24 is an integer, and its lowest byte that of the integer.
inline constexpr float kIntegers = 0x1.8p23f;

inline constexpr int32_t kMagnitude = 0x7FFFFFFF;

VEC_INLINE int32_t bits_of(float x) { return __builtin_bit_cast(int32_t, x); }
VEC_INLINE float from_bits(int32_t x) { return __builtin_bit_cast(float, x); }
VEC_INLINE bool is_finite(float x) { return x - x == 0.0f; }

/// What a block's numbers are multiplied with; the inverse of a subnormal number may be infinite.
VEC_INLINE float inverse_scale(float largest) {
  constexpr float kMost = 3.4028234e38f;
  const float inverse = largest > 0.0f ? 1.0f / largest : 0.0f;
  return inverse < kMost ? inverse : kMost;
}

/// The number that a code stands for, in a block whose largest magnitude is 1.
template <bool kSigned>
VEC_INLINE float value_of_code(const CodeFormulas& map, int32_t code) {
  const int32_t number = code - (map.zero - map.first_place);  // the place, or minus it
  const auto place = static_cast<float>(kSigned && number < 0 ? -number : number);
  const int32_t at = bits_of(place) >> 23 & 7;
  const float level = std::fma(place, 18.0f, map.offset[at]) * map.unit[at];
  if constexpr (!kSigned) return level;
  return from_bits(bits_of(level > 0.0f ? level : 0.0f) | (number & ~kMagnitude));
}

VEC_INLINE int32_t decade_of(const CodeFormulas& map, float magnitude) {
  int32_t decade = magnitude > map.middle ? 4 : 0;
  decade += magnitude > map.outer[decade] ? 2 : 0;
  return decade + (magnitude > map.odd[decade] ? 1 : 0);
}

/// The code of a finite x in a block of inverse_scale() `scale`.
template <bool kSigned>
VEC_INLINE int32_t code_of_value(const CodeFormulas& map, float x, float scale) {
  const float scaled = x * scale,
              magnitude = kSigned ? from_bits(bits_of(scaled) & kMagnitude) : scaled;
  const float y = magnitude > map.least ? magnitude : map.least;
  const int32_t decade = decade_of(map, y);
  const float d = map.inverse[decade], w = map.origin[decade];
  // The highest level whose lower border is below y: rounded to it or the one before, and then
  // without an error of rounding.
  const float rounded = std::fma(std::fma(y, d, w), 1.0f / 18.0f, kIntegers);
  const float border = std::fma(rounded - kIntegers, -18.0f, w);
  const int32_t found = bits_of(rounded) + (std::fma(y, d, border) > 0.0f ? 1 : 0);
  const int32_t last = bits_of(map.last[decade]);
  const int32_t level = x == 0.0f ? 0 : (found < last ? found : last) - bits_of(kIntegers);
  if (!kSigned || !(x < 0.0f)) return map.zero + level;
  return map.zero - (level < map.zero ? level : map.zero);  // there is no -1
}

}  // namespace tendril::cpu
