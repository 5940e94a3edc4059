// Private to core: the loops of gemm() that are compiled once per instruction set.
//
// K is walked in steps. A step is one element of f32 or f64, or a pair of bf16 elements (the unit
// of the processor's dot product instruction); a unit is what one step takes of one row or column.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/gemm.h>
#include <tendril/core/cpu/isa.h>

namespace tendril::cpu {

/// Where a kernel reads A: unit (i, step) is at data + i * row_bytes + step * step_bytes.
struct ReadableA {
  const char* data;
  int64_t row_bytes, step_bytes;
};

/// Where it reads B: unit (step, j) is in panel j / columns, at panel * panel_bytes + step *
/// step_bytes
/// + (j % columns) * unit size.
struct ReadableB {
  const char* data;
  int64_t panel_bytes, step_bytes;
};

struct GemmKernels {
  int rows, columns;      // of the register tile
  int elements_per_unit;  // 2 for pairs of bf16
  int unit_bytes;
  int pass_steps;  // at most, of K at a time: a panel of B then stays in the first-level cache
  /// Copies `rows` of A over `depth` elements of K to `copy`, converting to the units' type.
  ReadableA (*copy_a)(const MatrixView& a, int64_t rows, int64_t depth, void* copy);
  /// Packs `count` columns of B into panels [step][columns], zero-padded.
  void (*pack_b)(const MatrixView& b, int64_t count, int64_t depth, void* packed);
  /// C (M, N) = or += A B over `steps`; C holds double for f64 and float otherwise.
  void (*block)(int64_t M, int64_t N, int64_t steps, ReadableA a, ReadableB b, void* c,
                int64_t c_row_stride, bool accumulate) = nullptr;
  /// The same, rounding to a bf16 C; never accumulates. Null when there is none.
  void (*block_rounded)(int64_t M, int64_t N, int64_t steps, ReadableA a, ReadableB b, void* c,
                        int64_t c_row_stride, bool accumulate) = nullptr;
  /// C (M, N) = or += A B^T for few rows, both operands with contiguous K; null when there is none.
  /// K is a multiple of `skinny_multiple`, M at most `skinny_rows`.
  void (*skinny)(int64_t M, int64_t N, int64_t K, const MatrixView& a,
                 const MatrixView& b_transposed, void* c, int64_t c_row_stride,
                 bool accumulate) = nullptr;
  int skinny_rows = 0, skinny_multiple = 1;
};

/// Bytes that copy_a needs.
inline int64_t copied_a_bytes(const GemmKernels& kernels, int64_t rows, int64_t depth) {
  const int64_t steps = (depth + kernels.elements_per_unit - 1) / kernels.elements_per_unit;
  return rows * (steps * kernels.unit_bytes + 128) + 128;
}

/// The dot products of bf16 pairs, for processors that have the instruction. Call only if
/// has_bf16_dot().
bool has_bf16_dot();
namespace avx512_bf16 {
GemmKernels gemm_kernels_bf16();
}

}  // namespace tendril::cpu

TENDRIL_DECLARE_ISA(GemmKernels gemm_kernels_f32(); GemmKernels gemm_kernels_f64())
