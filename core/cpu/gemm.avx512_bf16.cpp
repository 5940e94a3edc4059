// Tiles of bf16 pairs: vdpbf16ps adds two products to each f32 sum, with subnormal inputs and
// results taken as zero. Compiled only for x86-64; called only where has_bf16_dot() says so.

#include <immintrin.h>

#include <tendril/core/cpu/gemm_kernels.h>
#include <tendril/core/cpu/gemm_pack.h>
#include <tendril/core/cpu/gemm_tile.h>

namespace tendril::cpu::avx512_bf16 {
namespace {

constexpr int kWidth = 32, kLanes = 16;

struct PairLanes {
  using Sum = float;
  typedef float Vector __attribute__((vector_size(64)));
  typedef float UnalignedVector __attribute__((vector_size(64), aligned(4), may_alias));
  using Units = __m512i;
  static constexpr int kLanes = 16, kRows = 14, kElementsPerUnit = 2, kElementBytes = 2;

  ISA_INLINE __m512i load(const char* p) { return _mm512_loadu_si512(p); }
  ISA_INLINE __m512i broadcast(const char* p) {
    int pair;
    memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  ISA_INLINE Vector multiply_add(Vector sum, __m512i left, __m512i right) {
    return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)right);
  }
  ISA_INLINE void store(bfloat16* target, Vector sum) {
    const __m256bh rounded = _mm512_cvtneps_pbh((__m512)sum);
    memcpy(static_cast<void*>(target), &rounded, sizeof rounded);
  }
};

int64_t pairs(int64_t depth) { return (depth + 1) / 2; }

// Two rows of B next to each other become one row of pairs.
ISA_INLINE void interleave(const uint16_t* even, const uint16_t* odd, int64_t count,
                           uint32_t* out) {
  for (int64_t j = 0; j < count; ++j) out[j] = even[j] | static_cast<uint32_t>(odd[j]) << 16;
}

void pack_b(const MatrixView& b, int64_t count, int64_t depth, void* packed) {
  const uint16_t* source = static_cast<const uint16_t*>(b.data);
  const int64_t steps = pairs(depth), even_steps = depth / 2;
  for (int64_t j0 = 0; j0 < count; j0 += kWidth) {
    const int64_t width = count - j0 < kWidth ? count - j0 : kWidth;
    const uint16_t* panel = source + j0 * b.column_stride;
    uint32_t* target = static_cast<uint32_t*>(packed) + j0 * steps;
    if (width < kWidth) memset(target, 0, static_cast<size_t>(steps * kWidth) * 4);
    if (b.row_stride == 1) {
      pack_transposed<int32_t, kLanes, kWidth>(reinterpret_cast<const char*>(panel),
                                               b.column_stride * 2, width, even_steps,
                                               reinterpret_cast<int32_t*>(target));
    } else if (b.column_stride != 1) {
      for (int64_t s = 0; s < even_steps; ++s)
        for (int64_t j = 0; j < width; ++j) {
          const uint16_t* pair = panel + 2 * s * b.row_stride + j * b.column_stride;
          target[s * kWidth + j] = pair[0] | static_cast<uint32_t>(pair[b.row_stride]) << 16;
        }
    }
    for (int64_t j = 0; even_steps < steps && j < width;
         ++j)  // an odd depth ends with a pair (x, 0)
      target[even_steps * kWidth + j] = panel[2 * even_steps * b.row_stride + j * b.column_stride];
  }
  if (b.column_stride != 1) return;
  for (int64_t s = 0; s < even_steps;
       ++s) {  // pair of rows by pair of rows, so that memory is read in order
    const uint16_t* row = source + 2 * s * b.row_stride;
    for (int64_t j0 = 0; j0 < count; j0 += kWidth) {
      uint32_t* target = static_cast<uint32_t*>(packed) + j0 * steps + s * kWidth;
      if (count - j0 >= kWidth)
        interleave(row + j0, row + j0 + b.row_stride, kWidth, target);
      else
        interleave(row + j0, row + j0 + b.row_stride, count - j0, target);
    }
  }
}

ReadableA copy_a(const MatrixView& a, int64_t rows, int64_t depth, void* copy) {
  const uint16_t* source = static_cast<const uint16_t*>(a.data);
  const int64_t steps = pairs(depth), whole = depth / 2;
  if (a.row_stride == 1 && a.column_stride != 1) {
    uint32_t* out = static_cast<uint32_t*>(copy);
    for (int64_t s = 0; s < whole; ++s) {
      const uint16_t* even = source + 2 * s * a.column_stride;
      interleave(even, even + a.column_stride, rows, out + s * rows);
    }
    for (int64_t i = 0; whole < steps && i < rows; ++i)
      out[whole * rows + i] = source[2 * whole * a.column_stride + i];
    return {static_cast<const char*>(copy), 4, rows * 4};
  }
  const int64_t stride = ((steps + 15) / 16 | 1) * 32;  // elements: an odd number of cache lines
  for (int64_t i = 0; i < rows; ++i) {
    uint16_t* out = static_cast<uint16_t*>(copy) + i * stride;
    const uint16_t* row = source + i * a.row_stride;
    if (a.column_stride == 1)
      memcpy(out, row, static_cast<size_t>(depth) * 2);
    else
      for (int64_t k = 0; k < depth; ++k) out[k] = row[k * a.column_stride];
    if (depth % 2) out[depth] = 0;
  }
  return {static_cast<const char*>(copy), stride * 2, 4};
}

}  // namespace

GemmKernels gemm_kernels_bf16() {
  return {.rows = PairLanes::kRows,
          .columns = kWidth,
          .elements_per_unit = 2,
          .unit_bytes = 4,
          .pass_steps = 256,
          .copy_a = copy_a,
          .pack_b = pack_b,
          .block = block<PairLanes, float>,
          .block_rounded = block<PairLanes, bfloat16>,
          .skinny = skinny<PairLanes>,
          .skinny_rows = kSkinnyRows,
          .skinny_multiple = 2 * kLanes};
}

}  // namespace tendril::cpu::avx512_bf16
