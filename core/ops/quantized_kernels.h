// Private to core: the loops over one block of quantised numbers, compiled once per instruction
// set.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/ops/optimizer_rules.h>

namespace tendril::cpu {

// A map of codes. Level j is the j-th code from 0 upwards, its place J = j + first_place. Decade b
// (of b = 0 .. 6) has the places from P = 2^b, or 2^(b+1) without a sign, to 2 P - 1; there
//   level = (18 J + 9 - 16 P) / D,  D = 2^8 5^(7-b), or twice that without a sign,
// and the border below place J is (18 J - 16 P) / D. The border between two decades lies 18 / D
// above that, and the highest level, 1, is decade 7. All numerators and denominators are integers
// that a float can hold.
struct CodeBook {
  int32_t zero;         // the code of 0, and of level 0
  int32_t first_place;  // 0, or 1 without a sign

  // From codes, as formulas. By the exponent of J as a float, 127 + log2 P, modulo 8:
  // level = (18 J + offset) * unit.
  float offset[8], unit[8];
  // And as a table.
  float values[256];  // ascending

  // To codes, as formulas. The decade by the exponent, modulo 32: the decade below the only border
  // between decades in this binade (the bits of an integer), and the border.
  float binade_decade[32], binade_border[32];
  // Or by three steps of a search: the largest magnitude that belongs to the decades below 4; below
  // 2 or 6; below 1, 3, 5 or 7, by the decade so far.
  float middle, outer[8], odd[8];
  // By decade: D; 16 P - 18 (first_place + 1); the highest level (the lowest byte of a float of
  // about 1.5 * 2^23).
  float inverse[8], origin[8], last[8];
  float least;  // level 1

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
