// What a warp's instructions for matrices do once all of its lanes have come: include/tendril/core/
// cuda/mma.cuh posts and takes fragments, the arithmetic is here.
#pragma once

#include <array>
#include <cstdint>

namespace emulated {

/// A row of an 8 x 8 matrix of 16-bit elements, as lane i posts row i % 8 of matrix i / 8; four
/// registers as every lane gets them.
using MatrixRow = std::array<uint16_t, 8>;
using FourWords = std::array<uint32_t, 4>;
void distribute(const std::array<MatrixRow, 32>& rows, std::array<FourWords, 32>& lanes);
void distribute_transposed(const std::array<MatrixRow, 32>& rows, std::array<FourWords, 32>& lanes);

/// A (16, 16), B (16, 8) and C (16, 8), spread over the lanes as core/cuda/mma.cuh says.
struct Operands {
  uint32_t a[4], b[2];
  float c[4];
};
using FourSums = std::array<float, 4>;
/// C + A B; each sum runs from the first of the 16 products to the last and is then added to C.
void multiply_bfloat16(const std::array<Operands, 32>& lanes, std::array<FourSums, 32>& sums);
void multiply_float16(const std::array<Operands, 32>& lanes, std::array<FourSums, 32>& sums);

}  // namespace emulated
