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
  MatrixView from(int64_t row, int64_t column) const {
    const int64_t offset = (row * row_stride + column * column_stride) * size_of(dtype);
    return {static_cast<const char*>(data) + offset, dtype, row_stride, column_stride};
  }
};

/// Told about each block of C once its numbers are final, by the thread that computed them, while
/// they are in its cache. Every element of C is in exactly one block.
class BlockHook {
 public:
  virtual ~BlockHook() = default;
  virtual void run(int64_t row, int64_t column, int64_t rows, int64_t columns) const = 0;
};

/// Where a product goes: rows of unit column stride, f64, f32, bf16 or f16.
struct GemmOutput {
  void* data = nullptr;
  DType dtype = f32;
  int64_t row_stride = 0;
  bool accumulate = false;  // add to what is there; f32 and f64 only
  const void* bias =
      nullptr;  // added to every row when not null: N numbers of the dtype of the sums
  const BlockHook* after_block = nullptr;
};

/// C (M, N) = A (M, K) B (K, N). Operands are both f64 (sums and C in f64), or any of f32, bf16 and
/// f16 (sums in f32, rounded once when C is a 16-bit type). The order of every sum depends on the
/// shape alone, so results do not depend on the thread count. Inside a parallel_for the product
/// runs in the calling thread.
TENDRIL_API void gemm(int64_t M, int64_t N, int64_t K, const MatrixView& a, const MatrixView& b,
                      const GemmOutput& c);

template <class T>
TENDRIL_API void gemm(int64_t M, int64_t N, int64_t K, const MatrixView& a, const MatrixView& b,
                      T* c, int64_t c_row_stride, bool accumulate = false) {
  gemm(M, N, K, a, b, {c, dtype_of<T>(), c_row_stride, accumulate});
}

}  // namespace tendril::cpu
