// One element from one dtype to another; every cast in the library goes through here.
//   float -> 16-bit   round to nearest even, once: f64 and i64 do not round to f32 first; NaN stays
//   NaN float -> integer  truncates toward zero, saturates at the limits, NaN gives 0 integer ->
//   narrower integer  keeps the low bits anything -> bool  is x != 0, hence NaN is true
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include <tendril/core/dtype.h>

namespace tendril::ops {

namespace detail {

// Rounds to the float whose last bit says whether anything was lost ("round to odd"). Rounding that
// to 16 bits gives the same as rounding `x` directly, which rounding to nearest twice does not.
TENDRIL_HD inline float float_round_to_odd(double x) {
  const float nearest = static_cast<float>(x);
  if (nearest == x || x != x) return nearest;
  uint32_t bits = tendril::detail::float_bits(nearest);
  const bool away_from_zero = x < 0 ? nearest < x : nearest > x;
  if (away_from_zero) --bits;
  return tendril::detail::bits_float(bits | 1u);
}

// The same idea for the integers that a double cannot hold.
TENDRIL_HD inline double double_round_to_odd(int64_t x) {
  constexpr int64_t kExact = int64_t{1} << 53, kLost = (int64_t{1} << 10) - 1;
  if ((x >= -kExact && x <= kExact) || (x & kLost) == 0) return static_cast<double>(x);
  return static_cast<double>((x & ~kLost) | (kLost + 1));
}

template <class To, class From>
TENDRIL_HD inline To saturate(From x) {
  // Both borders are powers of two (or zero), hence exact in every floating type.
  constexpr From kLow = static_cast<From>(std::numeric_limits<To>::min());
  constexpr From kEnd = static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * From{2};
  if (x != x) return To{0};
  if (x <= kLow) return std::numeric_limits<To>::min();
  if (x >= kEnd) return std::numeric_limits<To>::max();
  return static_cast<To>(x);
}

}  // namespace detail

template <class To, class From>
TENDRIL_HD inline To convert(From x) {
  constexpr bool to_half = std::is_same_v<To, bfloat16> || std::is_same_v<To, float16>;
  constexpr bool to_integer = std::is_integral_v<To> && !std::is_same_v<To, bool>;
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<From, bfloat16> || std::is_same_v<From, float16>) {
    return convert<To>(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From{0};
  } else if constexpr (to_half && std::is_same_v<From, double>) {
    return To(detail::float_round_to_odd(x));
  } else if constexpr (to_half && sizeof(From) >= 4 && std::is_integral_v<From>) {
    return To(detail::float_round_to_odd(detail::double_round_to_odd(x)));
  } else if constexpr (to_half) {
    return To(static_cast<float>(x));
  } else if constexpr (to_integer && std::is_floating_point_v<From>) {
    return detail::saturate<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

}  // namespace tendril::ops
