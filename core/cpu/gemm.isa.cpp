// Packing and the register-tiled inner product. On AVX2 and AVX-512 the tile is our own; elsewhere the
// packed block goes through Eigen (its panels are then single rows and columns).

#include <tendril/core/cpu/gemm_kernels.h>

#ifdef TENDRIL_ISA_generic
#include <Eigen/Core>
#endif

namespace tendril::cpu::TENDRIL_ISA {
namespace {

#if defined(TENDRIL_ISA_avx512)
constexpr int kVectorBytes = 64, kTileRows = 14, kTileVectors = 2;  // 28 accumulators of 32 registers
#elif defined(TENDRIL_ISA_avx2)
constexpr int kVectorBytes = 32, kTileRows = 6, kTileVectors = 2;  // 12 accumulators of 16 registers
#else
constexpr int kVectorBytes = 16, kTileRows = 1, kTileVectors = 0;
#endif

template <class T>
constexpr int kTileColumns = kTileVectors ? kTileVectors * kVectorBytes / static_cast<int>(sizeof(T)) : 1;

// One panel: packed[k * Width + i] = source(i, k) for i < count, zero for the padding.
template <class T, class S, int Width>
ISA_INLINE void pack_panel(const S* source, int64_t stride, int64_t k_stride, int64_t count, int64_t depth, T* packed) {
  if (count == Width && stride == 1) {
    for (int64_t k = 0; k < depth; ++k)
      for (int i = 0; i < Width; ++i) packed[k * Width + i] = static_cast<T>(source[k * k_stride + i]);
  } else if (count == Width && k_stride == 1) {
    for (int64_t k = 0; k < depth; ++k)
      for (int i = 0; i < Width; ++i) packed[k * Width + i] = static_cast<T>(source[i * stride + k]);
  } else {
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t i = 0; i < count; ++i) packed[k * Width + i] = static_cast<T>(source[i * stride + k * k_stride]);
      for (int64_t i = count; i < Width; ++i) packed[k * Width + i] = T(0);
    }
  }
}

template <class T, class S, int Width>
void pack_as(const void* data, int64_t stride, int64_t k_stride, int64_t count, int64_t depth, T* packed) {
  const S* source = static_cast<const S*>(data);
  for (int64_t i = 0; i < count; i += Width) {
    const int64_t width = count - i < Width ? count - i : Width;
    pack_panel<T, S, Width>(source + i * stride, stride, k_stride, width, depth, packed + i * depth);
  }
}

template <class T, int Width>
void pack(const MatrixView& m, int64_t stride, int64_t k_stride, int64_t count, int64_t depth, T* packed) {
  if constexpr (sizeof(T) == 8) {
    pack_as<T, double, Width>(m.data, stride, k_stride, count, depth, packed);
  } else if (m.dtype == DType::bf16) {
    pack_as<T, bfloat16, Width>(m.data, stride, k_stride, count, depth, packed);
  } else if (m.dtype == DType::f16) {
    pack_as<T, float16, Width>(m.data, stride, k_stride, count, depth, packed);
  } else {
    pack_as<T, float, Width>(m.data, stride, k_stride, count, depth, packed);
  }
}

template <class T>
void pack_a(const MatrixView& a, int64_t count, int64_t depth, T* packed) {
  pack<T, kTileRows>(a, a.row_stride, a.column_stride, count, depth, packed);
}

template <class T>
void pack_b(const MatrixView& b, int64_t count, int64_t depth, T* packed) {
  pack<T, kTileColumns<T>>(b, b.column_stride, b.row_stride, count, depth, packed);
}

#ifdef TENDRIL_ISA_generic

template <class T>
void block(int64_t M, int64_t N, int64_t depth, const T* a, const T* b, T* c, int64_t c_row_stride, bool accumulate) {
  using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using ColumnMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
  const Eigen::Map<const RowMajor> left(a, M, depth);
  const Eigen::Map<const ColumnMajor> right(b, depth, N);
  Eigen::Map<RowMajor, 0, Eigen::OuterStride<>> out(c, M, N, Eigen::OuterStride<>(c_row_stride));
  if (accumulate) out.noalias() += left * right;
  else out.noalias() = left * right;
}

#else

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
};

// The whole tile stays in registers over the depth: per step kTileVectors loads of B, kTileRows
// broadcasts of A, kTileRows * kTileVectors fused multiply-adds.
template <class T>
ISA_INLINE void tile(int64_t depth, const T* a, const T* b, T* c, int64_t c_row_stride, bool accumulate) {
  using V = typename VectorOf<T>::type;
  constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  V sum[kTileRows][kTileVectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    V right[kTileVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kTileVectors; ++j) right[j] = *reinterpret_cast<const V*>(b + k * kTileColumns<T> + j * kLanes);
#pragma GCC unroll 14
    for (int i = 0; i < kTileRows; ++i) {
      const T left = a[k * kTileRows + i];
#pragma GCC unroll 2
      for (int j = 0; j < kTileVectors; ++j) sum[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 14
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kTileVectors; ++j) {
      V* target = reinterpret_cast<V*>(c + i * c_row_stride + j * kLanes);
      *target = accumulate ? *target + sum[i][j] : sum[i][j];
    }
  }
}

// At the border the full tile is computed into a buffer, and only what exists is taken from it.
template <class T>
void border_tile(int64_t rows, int64_t columns, int64_t depth, const T* a, const T* b, T* c, int64_t c_row_stride,
                 bool accumulate) {
  alignas(64) T buffer[kTileRows * kTileColumns<T>];
  tile<T>(depth, a, b, buffer, kTileColumns<T>, false);
  for (int64_t i = 0; i < rows; ++i) {
    T* row = c + i * c_row_stride;
    const T* values = buffer + i * kTileColumns<T>;
    for (int64_t j = 0; j < columns; ++j) row[j] = accumulate ? row[j] + values[j] : values[j];
  }
}

template <class T>
void block(int64_t M, int64_t N, int64_t depth, const T* a, const T* b, T* c, int64_t c_row_stride, bool accumulate) {
  constexpr int64_t kRows = kTileRows, kColumns = kTileColumns<T>;
  for (int64_t j = 0; j < N; j += kColumns) {
    for (int64_t i = 0; i < M; i += kRows) {
      const T *left = a + i * depth, *right = b + j * depth;
      T* target = c + i * c_row_stride + j;
      const int64_t rows = M - i < kRows ? M - i : kRows, columns = N - j < kColumns ? N - j : kColumns;
      if (rows == kRows && columns == kColumns) tile<T>(depth, left, right, target, c_row_stride, accumulate);
      else border_tile<T>(rows, columns, depth, left, right, target, c_row_stride, accumulate);
    }
  }
}

#endif

}  // namespace

GemmKernels<float> gemm_kernels_f32() {
  return {kTileRows, kTileColumns<float>, pack_a<float>, pack_b<float>, block<float>};
}

GemmKernels<double> gemm_kernels_f64() {
  return {kTileRows, kTileColumns<double>, pack_a<double>, pack_b<double>, block<double>};
}

}  // namespace tendril::cpu::TENDRIL_ISA
