// The loop nest of Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", 2008):
// K is cut so that a panel of B stays in the first-level cache, M and N so that packed operands stay in
// the last-level cache; blocks of C are handed to threads, each block to exactly one.

#include <tendril/core/cpu/gemm.h>

#include <algorithm>

#include <tendril/core/allocator.h>
#include <tendril/core/cpu/gemm_kernels.h>
#include <tendril/core/threads.h>

namespace tendril::cpu {
namespace {

constexpr int64_t kDepth = 256;        // of K per pass
constexpr int64_t kMaxPacked = 4096;   // rows of A or columns of B packed at a time
constexpr int64_t kBlockTiles = 8;     // a thread's unit of work: 8 tiles by at most 128 columns
constexpr int64_t kBlockColumns = 128;

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

MatrixView from(const MatrixView& m, int64_t row, int64_t column) {
  const int64_t offset = (row * m.row_stride + column * m.column_stride) * size_of(m.dtype);
  return {static_cast<const char*>(m.data) + offset, m.dtype, m.row_stride, m.column_stride};
}

template <class T>
GemmKernels<T> kernels() {
  if constexpr (std::is_same_v<T, double>) return TENDRIL_ISA_CALL(gemm_kernels_f64());
  else return TENDRIL_ISA_CALL(gemm_kernels_f32());
}

template <class T>
void clear(int64_t M, int64_t N, T* c, int64_t c_row_stride) {
  for (int64_t i = 0; i < M; ++i) std::fill_n(c + i * c_row_stride, N, T(0));
}

template <class T>
void multiply_packed(const GemmKernels<T>& kernel, int64_t M, int64_t N, int64_t depth, const T* a, const T* b, T* c,
                     int64_t c_row_stride, bool accumulate) {
  const int64_t block_rows = std::max<int64_t>(kBlockTiles * kernel.rows, kernel.rows == 1 ? 96 : 0);
  const int64_t block_columns = round_up(kBlockColumns, kernel.columns);
  const int64_t row_blocks = (M + block_rows - 1) / block_rows;
  const int64_t column_blocks = (N + block_columns - 1) / block_columns;
  parallel_for(row_blocks * column_blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t i = index / column_blocks * block_rows, j = index % column_blocks * block_columns;
      kernel.block(std::min(block_rows, M - i), std::min(block_columns, N - j), depth, a + i * depth, b + j * depth,
                   c + i * c_row_stride + j, c_row_stride, accumulate);
    }
  });
}

}  // namespace

template <class T>
void gemm(int64_t M, int64_t N, int64_t K, const MatrixView& a, const MatrixView& b, T* c, int64_t c_row_stride,
          bool accumulate) {
  if (M == 0 || N == 0) return;
  if (K == 0) {
    if (!accumulate) clear(M, N, c, c_row_stride);
    return;
  }
  const GemmKernels<T> kernel = kernels<T>();
  const int64_t passes = (K + kDepth - 1) / kDepth;
  const int64_t depth_step = (K + passes - 1) / passes;  // passes of equal depth
  const int64_t row_step = round_up(kMaxPacked, kernel.rows), column_step = round_up(kMaxPacked, kernel.columns);
  const int64_t a_elements = round_up(std::min(M, row_step), kernel.rows) * depth_step;
  const int64_t b_elements = round_up(std::min(N, column_step), kernel.columns) * depth_step;
  const auto workspace = Storage::allocate((a_elements + b_elements + 64) * static_cast<int64_t>(sizeof(T)), Device::cpu());
  T* packed_a = static_cast<T*>(workspace->data());
  T* packed_b = packed_a + round_up(a_elements, 16);

  // Panels are packed by whichever thread comes first; where each one goes is fixed.
  const auto pack = [&](auto pack_panels, int64_t width, const auto& view_from, int64_t count, int64_t depth, T* packed) {
    const int64_t chunk = round_up(std::max<int64_t>(1, 16384 / depth), width);
    parallel_for(count, chunk, [&](int64_t begin, int64_t end) {
      pack_panels(view_from(begin), end - begin, depth, packed + begin * depth);
    });
  };

  for (int64_t k = 0; k < K; k += depth_step) {
    const int64_t depth = std::min(depth_step, K - k);
    const bool add = accumulate || k > 0;
    for (int64_t i = 0; i < M; i += row_step) {
      const int64_t rows = std::min(row_step, M - i);
      pack(kernel.pack_a, kernel.rows, [&](int64_t at) { return from(a, i + at, k); }, rows, depth, packed_a);
      for (int64_t j = 0; j < N; j += column_step) {
        const int64_t columns = std::min(column_step, N - j);
        const bool packed_already = i > 0 && N <= column_step;
        if (!packed_already)
          pack(kernel.pack_b, kernel.columns, [&](int64_t at) { return from(b, k, j + at); }, columns, depth, packed_b);
        multiply_packed(kernel, rows, columns, depth, packed_a, packed_b, c + i * c_row_stride + j, c_row_stride, add);
      }
    }
  }
}

template void gemm(int64_t, int64_t, int64_t, const MatrixView&, const MatrixView&, float*, int64_t, bool);
template void gemm(int64_t, int64_t, int64_t, const MatrixView&, const MatrixView&, double*, int64_t, bool);

}  // namespace tendril::cpu
