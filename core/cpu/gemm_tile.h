// Private to core: register tiles, included by the files that are compiled per instruction set.
// Everything is a template over Lanes, which says what a unit is:
//
//   Vector, UnalignedVector   kLanes sums (float or double); the second for memory
//   load(p)            kLanes units from memory
//   broadcast(p)       one unit in all lanes
//   multiply_add(s, a, b)   s + a b, summed within the unit
//   store(p, s)        only where Out is bfloat16: rounds
// Out is the type of C: that of the sums, or bfloat16.
#pragma once

#include <tendril/core/cpu/gemm_kernels.h>

namespace tendril::cpu::TENDRIL_ISA {
namespace {

// The whole tile stays in registers over all steps: per step V loads of B, R broadcasts of A, R * V
// multiply-adds. Rows are addressed in groups of three so that their pointers fit in registers.
template <class Lanes, class Out, int R, int V>
void tile(int64_t steps, ReadableA a, const char* b, int64_t b_step, Out* c, int64_t c_row_stride,
          int64_t columns, bool accumulate) {
  using Sum = typename Lanes::Sum;
  constexpr bool kRounds = !std::is_same_v<Out, Sum>;
  using Vector = typename Lanes::Vector;
  constexpr int kVectorBytes = sizeof(Vector), kGroups = (R + 2) / 3;
  Vector sum[R][V];
#pragma GCC unroll 14
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < V; ++j) sum[i][j] = Vector{};
  }
  const char* group[kGroups];
  for (int g = 0; g < kGroups; ++g) group[g] = a.data + 3 * g * a.row_bytes;
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < V; ++j) __builtin_prefetch(c + i * c_row_stride + j * Lanes::kLanes, 1);
  const int64_t row1 = a.row_bytes, row2 = 2 * a.row_bytes;
  for (int64_t k = 0; k < steps; ++k) {
    typename Lanes::Units right[V];
#pragma GCC unroll 4
    for (int j = 0; j < V; ++j) right[j] = Lanes::load(b + j * kVectorBytes);
#pragma GCC unroll 14
    for (int i = 0; i < R; ++i) {
      const auto left = Lanes::broadcast(group[i / 3] + (i % 3 == 0   ? 0
                                                         : i % 3 == 1 ? row1
                                                                      : row2));
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) sum[i][j] = Lanes::multiply_add(sum[i][j], left, right[j]);
    }
#pragma GCC unroll 5
    for (int g = 0; g < kGroups; ++g) group[g] += a.step_bytes;
    b += b_step;
  }
  using Memory = typename Lanes::UnalignedVector;
  if (columns == V * Lanes::kLanes) {
#pragma GCC unroll 14
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) {
        Out* target = c + i * c_row_stride + j * Lanes::kLanes;
        if constexpr (kRounds) {
          Lanes::store(target, sum[i][j]);
        } else {
          Memory* memory = reinterpret_cast<Memory*>(target);
          *memory = accumulate ? *memory + sum[i][j] : sum[i][j];
        }
      }
    }
    return;
  }
  // At the right border only what exists is written. (The sums must not be indexed by a variable,
  // or they would live in memory.)
  Sum border[R][V * Lanes::kLanes];
#pragma GCC unroll 14
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < V; ++j)
      *reinterpret_cast<Memory*>(&border[i][j * Lanes::kLanes]) = sum[i][j];
  }
  for (int i = 0; i < R; ++i) {
    Out* row = c + i * c_row_stride;
    for (int64_t j = 0; j < columns; ++j)
      row[j] = Out(accumulate ? static_cast<Sum>(row[j]) + border[i][j] : border[i][j]);
  }
}

template <class Lanes, class Out, int R>
ISA_INLINE void tile_of_width(int64_t steps, const ReadableA& a, const char* b, int64_t b_step,
                              Out* c, int64_t c_row_stride, int64_t columns, bool accumulate) {
  if (columns > Lanes::kLanes)
    tile<Lanes, Out, R, 2>(steps, a, b, b_step, c, c_row_stride, columns, accumulate);
  else
    tile<Lanes, Out, R, 1>(steps, a, b, b_step, c, c_row_stride, columns, accumulate);
}

template <class Lanes, class Out, int R>
ISA_INLINE void tile_of_height(int64_t rows, int64_t steps, const ReadableA& a, const char* b,
                               int64_t b_step, Out* c, int64_t c_row_stride, int64_t columns,
                               bool accumulate) {
  if constexpr (R > 0) {
    if (rows == R)
      tile_of_width<Lanes, Out, R>(steps, a, b, b_step, c, c_row_stride, columns, accumulate);
    else
      tile_of_height<Lanes, Out, R - 1>(rows, steps, a, b, b_step, c, c_row_stride, columns,
                                        accumulate);
  }
}

// The panel of B stays in the first-level cache while the rows of A pass by.
template <class Lanes, class Out>
void block(int64_t M, int64_t N, int64_t steps, ReadableA a, ReadableB b, void* c,
           int64_t c_row_stride, bool accumulate) {
  constexpr int64_t kColumns = 2 * Lanes::kLanes, kRows = Lanes::kRows;
  for (int64_t j = 0; j < N; j += kColumns) {
    const char* panel = b.data + j / kColumns * b.panel_bytes;
    const int64_t columns = N - j < kColumns ? N - j : kColumns;
    for (int64_t i = 0; i < M;) {
      // Two tiles of half height beat a full one and a rest too small to hide the latency of its
      // sums.
      const int64_t left = M - i, rows = left <= kRows      ? left
                                         : left < 2 * kRows ? (left + 1) / 2
                                                            : kRows;
      const ReadableA here{a.data + i * a.row_bytes, a.row_bytes, a.step_bytes};
      tile_of_height<Lanes, Out, Lanes::kRows>(rows, steps, here, panel, b.step_bytes,
                                               static_cast<Out*>(c) + i * c_row_stride + j,
                                               c_row_stride, columns, accumulate);
      i += rows;
    }
  }
}

// R rows of A times W rows of B transposed: dot products along K, for products that only read B
// once.
template <class Lanes, int R, int W>
void dots(int64_t steps, const char* a, int64_t a_row, const char* b, int64_t b_row,
          typename Lanes::Sum* c, int64_t c_row_stride, bool accumulate) {
  typename Lanes::Vector sum[R][W];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < W; ++j) sum[i][j] = typename Lanes::Vector{};
  }
  constexpr int kBytes = sizeof(typename Lanes::Vector);
  for (int64_t k = 0; k < steps; k += Lanes::kLanes, a += kBytes, b += kBytes) {
    typename Lanes::Units right[W];
#pragma GCC unroll 4
    for (int j = 0; j < W; ++j) right[j] = Lanes::load(b + j * b_row);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      const auto left = Lanes::load(a + i * a_row);
#pragma GCC unroll 4
      for (int j = 0; j < W; ++j) sum[i][j] = Lanes::multiply_add(sum[i][j], left, right[j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < W; ++j) {
      typename Lanes::Sum lanes[Lanes::kLanes];
      *reinterpret_cast<typename Lanes::UnalignedVector*>(lanes) = sum[i][j];
      for (int width = Lanes::kLanes / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
      auto& target = c[i * c_row_stride + j];
      target = accumulate ? target + lanes[0] : lanes[0];
    }
  }
}

template <class Lanes, int R>
ISA_INLINE void dots_of_height(int64_t rows, int64_t N, int64_t steps, const char* a, int64_t a_row,
                               const char* b, int64_t b_row, typename Lanes::Sum* c,
                               int64_t c_row_stride, bool accumulate) {
  if constexpr (R > 0) {
    if (rows != R)
      return dots_of_height<Lanes, R - 1>(rows, N, steps, a, a_row, b, b_row, c, c_row_stride,
                                          accumulate);
    constexpr int kWide = R <= 4 ? 4 : 2;
    int64_t j = 0;
    for (; j + kWide <= N; j += kWide)
      dots<Lanes, R, kWide>(steps, a, a_row, b + j * b_row, b_row, c + j, c_row_stride, accumulate);
    for (; j < N; ++j)
      dots<Lanes, R, 1>(steps, a, a_row, b + j * b_row, b_row, c + j, c_row_stride, accumulate);
  }
}

constexpr int kSkinnyRows = 8;

template <class Lanes>
void skinny(int64_t M, int64_t N, int64_t K, const MatrixView& a, const MatrixView& b_transposed,
            void* c, int64_t c_row_stride, bool accumulate) {
  dots_of_height<Lanes, kSkinnyRows>(
      M, N, K / Lanes::kElementsPerUnit, static_cast<const char*>(a.data),
      a.row_stride * Lanes::kElementBytes, static_cast<const char*>(b_transposed.data),
      b_transposed.row_stride * Lanes::kElementBytes, static_cast<typename Lanes::Sum*>(c),
      c_row_stride, accumulate);
}

}  // namespace
}  // namespace tendril::cpu::TENDRIL_ISA
