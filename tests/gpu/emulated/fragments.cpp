#include "fragments.h"

#include <bit>
#include <cstddef>

namespace emulated {
namespace {

uint32_t two(uint16_t low, uint16_t high) { return low | uint32_t{high} << 16; }

float from_bfloat16(uint32_t half) { return std::bit_cast<float>(half << 16); }

// Without branches: multiplying by 2^112 turns the exponent and subnormals into a float's.
float from_float16(uint32_t half) {
  const uint32_t magnitude = (half & 0x7FFFu) << 13, sign = (half & 0x8000u) << 16;
  const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  const uint32_t special = (half & 0x7C00u) == 0x7C00u ? 0x7F800000u | magnitude : 0u;
  return std::bit_cast<float>(sign | scaled | special);
}

// Lane = 4 g + t.
template <auto kConvert>
void multiply(const std::array<Operands, 32>& lanes, std::array<FourSums, 32>& sums) {
  float a[16][16], b[16][8];
  for (size_t lane = 0; lane < 32; ++lane) {
    const size_t g = lane / 4, t = lane % 4;
    for (size_t i = 0; i < 4; ++i) {
      const size_t row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
      a[row][column] = kConvert(lanes[lane].a[i] & 0xFFFFu);
      a[row][column + 1] = kConvert(lanes[lane].a[i] >> 16);
    }
    for (size_t i = 0; i < 2; ++i) {
      const size_t row = 2 * t + 8 * i;
      b[row][g] = kConvert(lanes[lane].b[i] & 0xFFFFu);
      b[row + 1][g] = kConvert(lanes[lane].b[i] >> 16);
    }
  }
  for (size_t row = 0; row < 16; ++row) {
    float sum[8] = {};
    for (size_t k = 0; k < 16; ++k)
      for (size_t n = 0; n < 8; ++n) sum[n] += a[row][k] * b[k][n];
    for (size_t n = 0; n < 8; ++n) {
      const size_t lane = 4 * (row % 8) + n / 2, i = row / 8 * 2 + n % 2;
      sums[lane][i] = lanes[lane].c[i] + sum[n];
    }
  }
}

}  // namespace

void distribute(const std::array<MatrixRow, 32>& rows, std::array<FourWords, 32>& lanes) {
  for (size_t lane = 0; lane < 32; ++lane)
    for (size_t m = 0; m < 4; ++m) {
      const MatrixRow& row = rows[8 * m + lane / 4];
      lanes[lane][m] = two(row[lane % 4 * 2], row[lane % 4 * 2 + 1]);
    }
}

void distribute_transposed(const std::array<MatrixRow, 32>& rows,
                           std::array<FourWords, 32>& lanes) {
  for (size_t lane = 0; lane < 32; ++lane)
    for (size_t m = 0; m < 4; ++m) {
      const size_t row = 8 * m + lane % 4 * 2, column = lane / 4;
      lanes[lane][m] = two(rows[row][column], rows[row + 1][column]);
    }
}

void multiply_bfloat16(const std::array<Operands, 32>& lanes, std::array<FourSums, 32>& sums) {
  multiply<from_bfloat16>(lanes, sums);
}

void multiply_float16(const std::array<Operands, 32>& lanes, std::array<FourSums, 32>& sums) {
  multiply<from_float16>(lanes, sums);
}

}  // namespace emulated
