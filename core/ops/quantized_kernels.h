// Private to core: the loops over one block of quantised numbers, compiled once per instruction
// set.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/ops/optimizer_rules.h>

namespace tendril::cpu {

// A map of codes, and how to find the nearest one. Level j is the j-th code from 0 upwards. All
// magnitudes whose float has the same exponent and upper 7 bits of the mantissa form a cell, which
// is so small that at most one border between levels is inside.
struct CodeBook {
  static constexpr int kMantissaBits = 7, kShift = 23 - kMantissaBits;
  static constexpr int32_t kFirstCell = (127 - 23)
                                        << kMantissaBits;       // 2^-23: all below are level 0
  static constexpr int32_t kCells = (23 << kMantissaBits) + 1;  // the last begins with 1

  float values[256];  // by code, ascending
  int32_t zero;       // the code of 0, and of level 0
  // The level at the cell's lower end (upper half) and, as the bits of a float (lower half), the
  // magnitude above which the next level is the nearest.
  uint64_t cells[kCells];
};

// One state's part of a block.
struct QuantizedBlock {
  uint8_t* codes;
  float* absmax;
  const CodeBook* book;
};

}  // namespace tendril::cpu

// n <= 256 elements. False, and nothing is written, if one is not finite.
TENDRIL_DECLARE_ISA(bool quantize_block(int64_t n, const float* x, const QuantizedBlock& block))
TENDRIL_DECLARE_ISA(void dequantize_block(int64_t n, const QuantizedBlock& block, float* x))

// One step of a rule on n <= 256 elements of the parameter. Where a new state is not finite, the
// element's states become 0 and its parameter stays.
#define RULE(...)                                                                    \
  TENDRIL_DECLARE_ISA(void quantized_rule_block(int64_t n, float* p, const float* g, \
                                                const QuantizedBlock* states,        \
                                                const ops::__VA_ARGS__& rule))
#include <tendril/core/ops/quantized_rules.def>
