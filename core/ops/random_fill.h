// Private to core: random numbers into dense memory, where the memory is. Element i has what word i
// of the key gives.
#pragma once

#include <tendril/core/ops/convert.h>
#include <tendril/core/random.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

/// Uniform in [0, 1): the same bits on every device.
void fill_uniform(const Tensor& x, const RandomKey& key);
/// Standard normal. In f64 a GPU's logarithm and sine may differ in the last bits from the CPU's;
/// after rounding to a narrower type hardly any number does.
void fill_normal(const Tensor& x, const RandomKey& key);

/// [0, 1) with as many bits as T holds below 1, so that no rounding can give 1. Every dtype
/// truncates the same 32-bit fraction.
template <class T>
TENDRIL_HD inline T uniform_as(uint32_t bits) {
  if constexpr (std::is_same_v<T, double>)
    return bits * 0x1p-32;
  else if constexpr (std::is_same_v<T, float>)
    return uniform_from_bits(bits);
  else if constexpr (std::is_same_v<T, float16>)
    return float16(static_cast<float>(bits >> 21) * 0x1p-11f);
  else
    return T(static_cast<float>(bits >> 24) * 0x1p-8f);
}

/// Four elements out of four words.
template <class T>
struct UniformNumbers {
  TENDRIL_HD void operator()(const PhiloxBlock& words, T* values) const {
    for (int j = 0; j < 4; ++j) values[j] = uniform_as<T>(words[static_cast<size_t>(j)]);
  }
};
template <class T>
struct NormalNumbers {
  TENDRIL_HD void operator()(const PhiloxBlock& words, T* values) const {
    for (int j = 0; j < 4; j += 2) {
      const auto at = static_cast<size_t>(j);
      const auto pair = normal_from_bits(words[at], words[at + 1]);
      values[j] = convert<T>(pair[0]);
      values[j + 1] = convert<T>(pair[1]);
    }
  }
};

}  // namespace tendril::ops
