// The steps of fused attention on tensor cores, for one warp: fragments from swizzled tiles, scores
// that do not exist, dropout's coins. 16-bit operands, f32 sums. Private to core/ops/attention*.cu.
//
// Lane = 4 g + t. A score tile C (16 x 8 columns n) holds c[0], c[1] = row g, columns 2t, 2t + 1
// and c[2], c[3] = row g + 8. Forward and dQ have queries as rows and keys as columns; dK and dV
// the other way round.
#pragma once

#include <tendril/core/cuda/block.cuh>
#include <tendril/core/cuda/mma.cuh>
#include <tendril/core/cuda/shared.cuh>
#include <tendril/core/cuda/vector.cuh>
#include <tendril/core/ops/attention_device.cuh>

namespace tendril::ops::cuda {

using namespace tendril::cuda;  // the names of mma.cuh and tile.h

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

template <int kColumns>
constexpr uint32_t tile_bytes(int rows) {
  return static_cast<uint32_t>(rows * kColumns * 2);
}

/// Starts copying rows [0, kRows) into a tile; rows from `rows` and columns from `D` on become 0.
template <int kRows, int kColumns, int kThreads, class Tile = RowTile<kColumns>>
__device__ __forceinline__ void start_tile(uint32_t tile, const void* source, int64_t row_stride,
                                           int rows, int D) {
  constexpr int kChunks = kColumns / 8;
#pragma unroll
  for (int i = 0; i < (kRows * kChunks + kThreads - 1) / kThreads; ++i) {
    const int index = static_cast<int>(threadIdx.x) + i * kThreads;
    if (kRows * kChunks % kThreads != 0 && index >= kRows * kChunks) break;
    const int row = index / kChunks, chunk = index % kChunks;
    const bool valid = row < rows && chunk * 8 < D;
    const char* from =
        static_cast<const char*>(source) + (valid ? (row * row_stride + chunk * 8) * 2 : 0);
    copy_async(tile + Tile::offset(row, chunk), from, valid);
  }
}

/// A (16, 16) from rows [row, row + 16), columns [column, column + 16) of a tile.
template <class Tile>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], uint32_t tile, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  load_matrices(a, tile + Tile::offset(row + (lane & 15), column / 8 + (lane >> 4)));
}

/// Two B (16, 8): B[k][n] = tile[row + n][column + k], n in [0, 16): b[0..1] and b[2..3].
template <int kColumns>
__device__ __forceinline__ void load_b(uint32_t (&b)[4], uint32_t tile, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  load_matrices(b, tile + chunk_offset<kColumns>(row + (lane & 7) + (lane >> 4) * 8,
                                                 column / 8 + (lane >> 3 & 1)));
}

/// Two B (16, 8): B[k][n] = tile[row + k][column + n], n in [0, 16): b[0..1] and b[2..3].
template <int kColumns>
__device__ __forceinline__ void load_b_transposed(uint32_t (&b)[4], uint32_t tile, int row,
                                                  int column) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  load_matrices_transposed(
      b, tile + chunk_offset<kColumns>(row + (lane & 15), column / 8 + (lane >> 4)));
}

/// c = left right^T over kColumns channels. `load_left(a, k)` gives the A tiles of columns
/// [k, k + 16); `right` are rows [row, row + 8 kN) of a tile.
template <class T, int kColumns, int kM, int kN, class LoadLeft>
__device__ __forceinline__ void multiply_rows(float (&c)[kM][kN][4], const LoadLeft& load_left,
                                              uint32_t right, int row) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) c[m][n][i] = 0.0f;
#pragma unroll
  for (int k = 0; k < kColumns; k += 16) {
    uint32_t a[kM][4];
    load_left(a, k);
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t b[4];
      load_b<kColumns>(b, right, row + 8 * n, k);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        multiply_add<T>(c[m][n], a[m], b[0], b[1]);
        multiply_add<T>(c[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// sum += p right, where p (16 kM, 8 kN) is rounded to T and `right` are rows [row, row + 8 kN) of
/// a tile.
template <class T, int kColumns, int kM, int kN>
__device__ __forceinline__ void accumulate_product(float (&sum)[kM][kColumns / 8][4],
                                                   const float (&p)[kM][kN][4], uint32_t right,
                                                   int row) {
#pragma unroll
  for (int k = 0; k < kN; k += 2) {
    uint32_t a[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      a[m][0] = pack<T>(p[m][k][0], p[m][k][1]);
      a[m][1] = pack<T>(p[m][k][2], p[m][k][3]);
      a[m][2] = pack<T>(p[m][k + 1][0], p[m][k + 1][1]);
      a[m][3] = pack<T>(p[m][k + 1][2], p[m][k + 1][3]);
    }
#pragma unroll
    for (int n = 0; n < kColumns / 8; n += 2) {
      uint32_t b[4];
      load_b_transposed<kColumns>(b, right, row + 8 * k, 8 * n);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        multiply_add<T>(sum[m][n], a[m], b[0], b[1]);
        multiply_add<T>(sum[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// Rows [row, row + 16 kM) of A, loaded anew for every product or kept in registers.
template <int kColumns, int kM, bool kInRegisters>
class LeftRows {
 public:
  __device__ __forceinline__ LeftRows(uint32_t tile, int row) : tile_(tile), row_(row) {}
  __device__ __forceinline__ void keep() {  // once the tile is there
    if constexpr (kInRegisters)
#pragma unroll
      for (int k = 0; k < kColumns / 16; ++k)
#pragma unroll
        for (int m = 0; m < kM; ++m)
          load_a<RowTile<kColumns>>(kept_[k][m], tile_, row_ + 16 * m, 16 * k);
  }
  __device__ __forceinline__ void operator()(uint32_t (&a)[kM][4], int k) const {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      if constexpr (kInRegisters)
#pragma unroll
        for (int i = 0; i < 4; ++i) a[m][i] = kept_[k / 16][m][i];
      else
        load_a<RowTile<kColumns>>(a[m], tile_, row_ + 16 * m, k);
    }
  }

 private:
  uint32_t tile_;
  int row_;
  uint32_t kept_[kInRegisters ? kColumns / 16 : 1][kM][4];
};

/// Rounds rows [row, row + 16 kM), scaled by factor(m, half), to T and stores those below `rows`
/// and the columns below D. Passes through the warp's own rows of a tile, so that each lane stores
/// 16 bytes.
template <class T, int kColumns, int kM, class Tile = RowTile<kColumns>, class Factor>
__device__ __forceinline__ void store_rows(const float (&x)[kM][kColumns / 8][4],
                                           const Factor& factor, unsigned char* tile, int row,
                                           T* destination, int64_t row_stride, int rows, int D) {
  const int lane = static_cast<int>(threadIdx.x) & 31, g = lane >> 2, t = lane & 3;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float scale = factor(m, half);
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
        const uint32_t at = Tile::offset(row + 16 * m + 8 * half + g, n) + 4 * t;
        *reinterpret_cast<uint32_t*>(tile + at) =
            pack<T>(x[m][n][2 * half] * scale, x[m][n][2 * half + 1] * scale);
      }
    }
  __syncwarp();
  constexpr int kChunks = kColumns / 8;
#pragma unroll
  for (int i = 0; i < 16 * kM * kChunks / 32; ++i) {
    const int index = lane + 32 * i, at = row + index / kChunks, chunk = index % kChunks;
    if (at < rows && chunk * 8 < D)
      *reinterpret_cast<uint4*>(destination + at * row_stride + chunk * 8) =
          *reinterpret_cast<const uint4*>(tile + Tile::offset(at, chunk));
  }
}

/// -inf where the column is outside [first, last); `column` is that of c[.][0][0] in lane 0.
template <int kN>
__device__ __forceinline__ void keep_columns(float (&c)[kN][4], int half, int column, int64_t first,
                                             int64_t last) {
  const int t = static_cast<int>(threadIdx.x) & 3;
  const int low = static_cast<int>(first) - column - 2 * t,
            high = static_cast<int>(last) - column - 2 * t;
#pragma unroll
  for (int n = 0; n < kN; ++n)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = 8 * n + i;
      if (at < low || at >= high) c[n][2 * half + i] = -INFINITY;
    }
}

/// How the product q k becomes a power of 2: times `score` before the mask is added, and times
/// `exponent` where the exponential is taken.
struct ScoreFactors {
  float score, exponent;
};
template <bool kExtras>
__device__ __forceinline__ ScoreFactors score_factors(const AttentionProblem& p) {
  const float power = static_cast<float>(p.scale) * kLog2E;
  if constexpr (kExtras)
    if (p.mask_kind != MaskKind::none) return {power, 1.0f};
  return {1.0f, power};
}

/// What the mask adds to a score, as a power of 2; 0 outside the problem.
__device__ __forceinline__ float mask_power(const AttentionProblem& p, int64_t b, int64_t h, int t,
                                            int s) {
  if (p.mask_kind == MaskKind::none || t >= p.bounds.Tq || s >= p.bounds.Tk) return 0.0f;
  return p.mask_at<float>(b, h, t, s) * kLog2E;
}

/// Scores of rows [t, t + 16 kM) (queries) and columns [s, s + 8 kN) (keys): with kExtras times
/// `scale`, and the mask is added.
template <bool kExtras, int kM, int kN>
__device__ __forceinline__ void restrict_query_rows(float (&c)[kM][kN][4],
                                                    const AttentionProblem& p, int64_t b, int64_t h,
                                                    int t, int s, float scale) {
  const int lane = static_cast<int>(threadIdx.x) & 31, first = t + (lane >> 2);
  if constexpr (kExtras)
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          c[m][n][i] = c[m][n][i] * scale + mask_power(p, b, h, first + 16 * m + i / 2 * 8,
                                                       s + 8 * n + 2 * (lane & 3) + i % 2);
  if (p.bounds.sees_all(t, 16 * kM, s, 8 * kN)) return;
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + 16 * m + 8 * half;
      keep_columns(c[m], half, s, p.bounds.first_key(row), p.bounds.last_key(row));
    }
}

/// The same for rows [s, s + 16 kM) (keys) and columns [t, t + 8 kN) (queries).
template <bool kExtras, int kM, int kN>
__device__ __forceinline__ void restrict_key_rows(float (&c)[kM][kN][4], const AttentionProblem& p,
                                                  int64_t b, int64_t h, int s, int t, float scale) {
  const int lane = static_cast<int>(threadIdx.x) & 31, first = s + (lane >> 2);
  if constexpr (kExtras)
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          c[m][n][i] = c[m][n][i] * scale + mask_power(p, b, h, t + 8 * n + 2 * (lane & 3) + i % 2,
                                                       first + 16 * m + i / 2 * 8);
  if (t + 8 * kN <= p.bounds.Tq && p.bounds.sees_all(t, 8 * kN, s, 16 * kM)) return;
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + 16 * m + 8 * half;
      keep_columns(c[m], half, t, p.bounds.first_query(row), p.bounds.last_query(row));
    }
}

/// Random words of the four scores of a C tile whose rows are queries: `low` and `high` are the
/// elements of rows g and g + 8 at the tile's first key. Four adjacent keys share a Philox block
/// when Tk is a multiple of 4: a lane then computes one and trades half of it with its neighbour.
__device__ __forceinline__ void query_row_words(uint32_t (&words)[4], const RandomKey& key,
                                                bool aligned, uint64_t low, uint64_t high) {
  const uint32_t t = threadIdx.x & 3;
  if (!aligned) {
    for (uint32_t i = 0; i < 2; ++i) {
      words[i] = key.bits(low + 2 * t + i);
      words[2 + i] = key.bits(high + 2 * t + i);
    }
    return;
  }
  const bool odd = t & 1;
  const PhiloxBlock mine = key.block((odd ? high : low) / 4 + (t >> 1));
  const uint32_t got0 = __shfl_xor_sync(~0u, odd ? mine[0] : mine[2], 1);
  const uint32_t got1 = __shfl_xor_sync(~0u, odd ? mine[1] : mine[3], 1);
  words[0] = odd ? got0 : mine[0];
  words[1] = odd ? got1 : mine[1];
  words[2] = odd ? mine[2] : got0;
  words[3] = odd ? mine[3] : got1;
}

/// The same when rows are keys: `element` is that of the tile's first key and first query, `next`
/// the distance to the next query (Tk). The four lanes of keys 4i .. 4i + 3 compute a block each
/// (of two queries and of the keys' two halves) and transpose the 4 x 4 words.
__device__ __forceinline__ void key_row_words(uint32_t (&words)[4], const RandomKey& key,
                                              bool aligned, uint64_t element, uint64_t next) {
  const uint32_t lane = threadIdx.x & 31, t = lane & 3, g = lane >> 2;
  if (!aligned) {
    for (uint32_t i = 0; i < 4; ++i)
      words[i] = key.bits(element + (2 * t + (i & 1)) * next + g + (i >> 1) * 8);
    return;
  }
  const uint32_t j = g & 3;
  const PhiloxBlock mine =
      key.block((element + (2 * t + (j & 1)) * next + (g & 4) + (j >> 1) * 8) / 4);
  for (int i = 0; i < 4; ++i) words[i] = mine[static_cast<size_t>(i)];
#pragma unroll
  for (int bit = 1; bit <= 2; ++bit)
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const int first = bit == 1 ? 2 * pair : pair, second = first + bit;
      const bool upper = j & static_cast<uint32_t>(bit);
      const uint32_t got = __shfl_xor_sync(~0u, upper ? words[first] : words[second], 4 * bit);
      if (upper)
        words[first] = got;
      else
        words[second] = got;
    }
}

}  // namespace tendril::ops::cuda
