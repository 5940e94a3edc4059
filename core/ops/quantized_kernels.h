// Private to core: the loops over one block of quantised numbers, compiled once per instruction
// set.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/ops/optimizer_rules.h>
#include <tendril/core/ops/quantized_element.h>

namespace tendril::cpu {

// A map of codes by formulas, and what vectors of numbers or scalars take besides.
struct CodeBook : CodeFormulas {
  // From codes, as a table.
  float values[256];  // ascending

  // To codes: the decade by the exponent of the magnitude, modulo 32: the decade below the only
  // border between decades in this binade (the bits of an integer), and the border.
  float binade_decade[32], binade_border[32];

  // And as tables. All magnitudes whose float has the same exponent and upper 7 bits of the
  // mantissa form a cell, so small that at most one border between levels is inside.
  static constexpr int kMantissaBits = 7, kShift = 23 - kMantissaBits;
  static constexpr int32_t kFirstCell = (127 - 23)
                                        << kMantissaBits;       // 2^-23: all below are level 0
  static constexpr int32_t kCells = (23 << kMantissaBits) + 1;  // the last begins with 1
  uint8_t cells[kCells];                                        // the level at the cell's lower end
  float borders[256];  // by level: the largest magnitude that belongs to it
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

// One step of a rule on n elements of the parameter, of which `states` has the first block; only
// the last block may be a part of one. Where a new state is not finite, the element's states become
// 0 and its parameter stays.
#define RULE(...)                                                                     \
  TENDRIL_DECLARE_ISA(void quantized_rule_blocks(int64_t n, float* p, const float* g, \
                                                 const QuantizedBlock* states,        \
                                                 const ops::__VA_ARGS__& rule))
#include <tendril/core/ops/quantized_rules.def>
