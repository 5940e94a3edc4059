// Tiles of 16-bit matrices in shared memory: rows of 16-byte chunks, stored so that neither eight
// rows of one chunk column nor the chunks of a row meet in a memory bank.
#pragma once

#include <cstdint>

#include <tendril/core/api.h>

namespace tendril::cuda {

/// What the chunk index of a row is XORed with. Banks repeat every 128 bytes = eight chunks: rows
/// of 8 n chunks all start in the same bank, rows of 4 or 12 chunks in one of two.
template <int kColumns>
TENDRIL_HD constexpr int chunk_swizzle(int row) {
  static_assert(kColumns % 32 == 0, "a row is a whole number of 64-byte groups");
  return kColumns % 64 == 0 ? row & 7 : row >> 1 & 3;
}

/// Where chunk `chunk` (eight columns) of a row lies, in bytes from the start of the tile.
template <int kColumns>
TENDRIL_HD constexpr uint32_t chunk_offset(int row, int chunk) {
  return static_cast<uint32_t>(row * (kColumns / 8) + (chunk ^ chunk_swizzle<kColumns>(row))) * 16;
}

/// A tile of rows of `kColumns`, one after the other.
template <int kColumns>
struct RowTile {
  TENDRIL_HD static constexpr uint32_t offset(int row, int chunk) {
    return chunk_offset<kColumns>(row, chunk);
  }
};

/// A tile of kRows rows in blocks of 64 columns: what a warpgroup's products read.
template <int kRows>
struct BlockTile {
  TENDRIL_HD static constexpr uint32_t offset(int row, int chunk) {
    return static_cast<uint32_t>(chunk / 8 * kRows * 128) + chunk_offset<64>(row, chunk % 8);
  }
};

}  // namespace tendril::cuda
