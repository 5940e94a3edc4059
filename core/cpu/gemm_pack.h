// Private to core: bringing operands into the layouts that the tiles read; included by the files
// that are compiled per instruction set.
#pragma once

#include <cstring>
#include <utility>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include <tendril/core/cpu/gemm_kernels.h>
#include <tendril/core/cpu/half_convert.h>

namespace tendril::cpu::TENDRIL_ISA {
namespace {

// Integers of a unit's size, L of them. Transposition moves bits and does not ask what they mean.
template <int kUnitBytes, int L>
struct UnitVectors;
#define TENDRIL_UNIT_VECTORS(Integer, L)                                          \
  template <>                                                                     \
  struct UnitVectors<sizeof(Integer), L> {                                        \
    typedef Integer Vector                                                        \
        __attribute__((vector_size(sizeof(Integer) * L), aligned(4), may_alias)); \
  };
TENDRIL_UNIT_VECTORS(int32_t, 16)
TENDRIL_UNIT_VECTORS(int32_t, 8)
TENDRIL_UNIT_VECTORS(int32_t, 4)
TENDRIL_UNIT_VECTORS(int64_t, 8)
TENDRIL_UNIT_VECTORS(int64_t, 4)
TENDRIL_UNIT_VECTORS(int64_t, 2)
#undef TENDRIL_UNIT_VECTORS

// Elements `start`, start + 1, ... of a and b by turns. Clang and GCC have no shuffle in common
// before GCC 12.
template <int start, int L, class Vector, int... i>
ISA_INLINE Vector interleave(const Vector& a, const Vector& b, std::integer_sequence<int, i...>) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, (i % 2 * L + start + i / 2)...);
#else
  return __builtin_shuffle(a, b, Vector{(i % 2 * L + start + i / 2)...});
#endif
}

// L x L transposition in registers: log2(L) rounds of interleaving row i with row i + L / 2.
template <class Unit, int L>
ISA_INLINE void transpose_square(const char* source, int64_t row_bytes, Unit* target,
                                 int64_t target_stride) {
  using Vector = typename UnitVectors<sizeof(Unit), L>::Vector;
  Vector rows[L], next[L];
  constexpr std::make_integer_sequence<int, L> kIndices;
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) rows[i] = *reinterpret_cast<const Vector*>(source + i * row_bytes);
#pragma GCC unroll 4
  for (int round = 1; round < L; round *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < L / 2; ++i) {
      next[2 * i] = interleave<0, L>(rows[i], rows[i + L / 2], kIndices);
      next[2 * i + 1] = interleave<L / 2, L>(rows[i], rows[i + L / 2], kIndices);
    }
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) rows[i] = next[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) *reinterpret_cast<Vector*>(target + i * target_stride) = rows[i];
}

#ifdef __AVX512F__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 suspects its own intrinsics

// The same for 16 x 16 units of 32 bits with instructions that need no index registers: units,
// pairs of units, then quarters of registers are interleaved.
ISA_INLINE void transpose_16x16(const char* source, int64_t row_bytes, int32_t* target,
                                int64_t target_stride) {
  __m512i r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(source + i * row_bytes);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // r[i + c]: column 4 q + c of rows i .. i + 3, in quarter q
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512i even_low = _mm512_shuffle_i32x4(r[c], r[c + 4], 0x88),
                  odd_low = _mm512_shuffle_i32x4(r[c], r[c + 4], 0xDD);
    const __m512i even_high = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0x88),
                  odd_high = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0xDD);
    const auto store = [&](int column, __m512i v) {
      _mm512_storeu_si512(target + column * target_stride, v);
    };
    store(c, _mm512_shuffle_i32x4(even_low, even_high, 0x88));
    store(c + 8, _mm512_shuffle_i32x4(even_low, even_high, 0xDD));
    store(c + 4, _mm512_shuffle_i32x4(odd_low, odd_high, 0x88));
    store(c + 12, _mm512_shuffle_i32x4(odd_low, odd_high, 0xDD));
  }
}

#pragma GCC diagnostic pop
#endif

template <class Unit, int L>
ISA_INLINE void transpose(const char* source, int64_t row_bytes, Unit* target,
                          int64_t target_stride) {
#ifdef __AVX512F__
  if constexpr (sizeof(Unit) == 4 && L == 16)
    return transpose_16x16(source, row_bytes, target, target_stride);
#endif
  transpose_square<Unit, L>(source, row_bytes, target, target_stride);
}

// One panel from columns that are contiguous along K: packed[step * Width + j] = unit (step, j).
template <class Unit, int L, int Width>
ISA_INLINE void pack_transposed(const char* source, int64_t column_bytes, int64_t count,
                                int64_t steps, Unit* packed) {
  int64_t step = 0;
  const int64_t full = count / L * L;
  for (; step + L <= steps; step += L)
    for (int64_t j = 0; j < full; j += L)
      transpose<Unit, L>(source + j * column_bytes + step * static_cast<int64_t>(sizeof(Unit)),
                         column_bytes, packed + step * Width + j, Width);
  const auto single = [&](int64_t s, int64_t j) {
    memcpy(packed + s * Width + j,
           source + j * column_bytes + s * static_cast<int64_t>(sizeof(Unit)), sizeof(Unit));
  };
  for (int64_t s = 0; s < step; ++s)
    for (int64_t j = full; j < count; ++j) single(s, j);
  for (; step < steps; ++step)
    for (int64_t j = 0; j < count; ++j) single(step, j);
}

template <class T>
ISA_INLINE void convert_row(const T* from, T* to, int64_t count) {
  memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
}
ISA_INLINE void convert_row(const bfloat16* from, float* to, int64_t count) {
  convert_run(from, to, count);
}
ISA_INLINE void convert_row(const float16* from, float* to, int64_t count) {
  convert_run(from, to, count);
}

// ---- units of one element: T float or double, source of any type S that converts to T

template <class T, class S, int L, int Width>
void pack_columns(const MatrixView& b, int64_t count, int64_t depth, T* packed) {
  const S* source = static_cast<const S*>(b.data);
  const int64_t whole = count / Width * Width, rest = count - whole;
  T* last = packed + whole * depth;
  if (rest > 0) memset(last, 0, static_cast<size_t>(depth * Width) * sizeof(T));
  if (b.column_stride == 1) {  // row by row, so that memory is read in order
    for (int64_t k = 0; k < depth; ++k) {
      const S* row = source + k * b.row_stride;
      for (int64_t j = 0; j < whole; j += Width)
        convert_row(row + j, packed + j * depth + k * Width, Width);
      if (rest > 0) convert_row(row + whole, last + k * Width, rest);
    }
    return;
  }
  for (int64_t j0 = 0; j0 < count; j0 += Width) {
    const int64_t width = count - j0 < Width ? count - j0 : Width;
    const S* panel = source + j0 * b.column_stride;
    T* target = packed + j0 * depth;
    if (b.row_stride == 1 && sizeof(S) == sizeof(T)) {
      using Unit = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
      pack_transposed<Unit, L, Width>(reinterpret_cast<const char*>(panel),
                                      b.column_stride * static_cast<int64_t>(sizeof(T)), width,
                                      depth, reinterpret_cast<Unit*>(target));
    } else {
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t j = 0; j < width; ++j)
          target[k * Width + j] = static_cast<T>(panel[k * b.row_stride + j * b.column_stride]);
    }
  }
}

// Rows keep their order (K contiguous) unless A is stored transposed; then steps are rows of the
// copy.
template <class T, class S>
ReadableA copy_rows(const MatrixView& a, int64_t rows, int64_t depth, T* copy) {
  const S* source = static_cast<const S*>(a.data);
  constexpr int64_t kBytes = sizeof(T);
  if (a.row_stride == 1 && a.column_stride != 1) {
    for (int64_t k = 0; k < depth; ++k)
      convert_row(source + k * a.column_stride, copy + k * rows, rows);
    return {reinterpret_cast<const char*>(copy), kBytes, rows * kBytes};
  }
  // An odd number of cache lines per row keeps the rows of a tile in different cache sets.
  const int64_t line = 64 / kBytes, stride = ((depth + line - 1) / line | 1) * line;
  for (int64_t i = 0; i < rows; ++i) {
    const S* row = source + i * a.row_stride;
    T* out = copy + i * stride;
    if (a.column_stride == 1)
      convert_row(row, out, depth);
    else
      for (int64_t k = 0; k < depth; ++k) out[k] = static_cast<T>(row[k * a.column_stride]);
  }
  return {reinterpret_cast<const char*>(copy), stride * kBytes, kBytes};
}

}  // namespace
}  // namespace tendril::cpu::TENDRIL_ISA
