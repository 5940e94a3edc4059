// The order in which multinomial adds up the weights of a row, the same on every device so that the
// same random words draw the same index: blocks of kDrawBlock weights are summed one after the
// other,
//   running[i] = (sum of the blocks before) + (weights of i's own block up to i).
// Internal; used by multinomial.cpp and multinomial.cu.
#pragma once

#include <cstdint>

#include <tendril/core/api.h>

namespace tendril::ops {

inline constexpr int64_t kDrawBlock = 256;

/// [0, 1) with 53 bits.
TENDRIL_HD inline double uniform_from_words(uint32_t high, uint32_t low) {
  return static_cast<double>((uint64_t{high} << 32 | low) >> 11) * 0x1p-53;
}

/// (0, 1): its logarithm is finite.
TENDRIL_HD inline double open_uniform_from_bits(uint32_t bits) { return (bits + 0.5) * 0x1p-32; }

inline constexpr const char* kBadWeight = "weights must be finite and not negative";
inline constexpr const char* kBadRow = "the weights of a row must have a positive, finite sum";

}  // namespace tendril::ops
