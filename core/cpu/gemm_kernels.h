// Private to core: the loops of gemm() that are compiled once per instruction set.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/gemm.h>
#include <tendril/core/cpu/isa.h>

namespace tendril::cpu {

/// Packed operands: A in panels of `rows` rows, each panel [K][rows]; B in panels of `columns` columns,
/// each panel [K][columns]; zero-padded to whole panels.
template <class T>
struct GemmKernels {
  int64_t rows, columns;  // of the register tile
  /// Packs `count` rows of A (or columns of B) over `depth` steps of K.
  void (*pack_a)(const MatrixView& a, int64_t count, int64_t depth, T* packed);
  void (*pack_b)(const MatrixView& b, int64_t count, int64_t depth, T* packed);
  /// C (M, N) = or += packed A times packed B.
  void (*block)(int64_t M, int64_t N, int64_t depth, const T* a, const T* b, T* c, int64_t c_row_stride, bool accumulate);
};

}  // namespace tendril::cpu

TENDRIL_DECLARE_ISA(GemmKernels<float> gemm_kernels_f32())
TENDRIL_DECLARE_ISA(GemmKernels<double> gemm_kernels_f64())
