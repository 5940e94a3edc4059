// General matrix product on the CPU, the one place where dense algebra spends its time.
#pragma once

#include <tendril/core/dtype.h>

namespace tendril::cpu {

/// A matrix anywhere in memory: element (i, j) is at data[i * row_stride + j * column_stride].
struct MatrixView {
  const void* data = nullptr;
  DType dtype = f32;
  int64_t row_stride = 0, column_stride = 1;

  MatrixView transposed() const { return {data, dtype, column_stride, row_stride}; }
};

/// C (M, N) = A (M, K) B (K, N), or C += A B with `accumulate`. C has unit column stride.
/// T float: operands may be f32, bf16 or f16 (converted while packing); T double: f64 operands.
/// The order of every sum depends on the shape alone, so results do not depend on the thread count.
/// Inside a parallel_for the product runs in the calling thread.
template <class T>
void gemm(int64_t M, int64_t N, int64_t K, const MatrixView& a, const MatrixView& b, T* c, int64_t c_row_stride,
          bool accumulate = false);

}  // namespace tendril::cpu
