// Tiles of f32 and f64. On AVX2 and AVX-512 the tile is our own; elsewhere the packed block goes
// through Eigen (its panels are then single columns).

#include <tendril/core/cpu/gemm_kernels.h>
#include <tendril/core/cpu/gemm_pack.h>
#ifdef TENDRIL_ISA_generic
#define EIGEN_DONT_PARALLELIZE  // gemm() hands out the blocks; Eigen does not ask num_threads()
#include <Eigen/Core>
#else
#include <tendril/core/cpu/gemm_tile.h>
#endif

namespace tendril::cpu::TENDRIL_ISA {
namespace {

#if defined(TENDRIL_ISA_avx512)
constexpr int kVectorBytes = 64, kTileRows = 14;  // 28 sums of 32 registers
#elif defined(TENDRIL_ISA_avx2)
constexpr int kVectorBytes = 32, kTileRows = 6;  // 12 sums of 16 registers
#else
constexpr int kVectorBytes = 16, kTileRows = 1;
#endif

template <class T>
constexpr int kVectorLanes = kVectorBytes / static_cast<int>(sizeof(T));

#ifdef TENDRIL_ISA_generic

template <class T>
constexpr int kTileColumns = 1;

template <class T>
void eigen_block(int64_t M, int64_t N, int64_t steps, ReadableA a, ReadableB b, void* c,
                 int64_t c_row_stride, bool accumulate) {
  using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using ColumnMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  constexpr int64_t kBytes = sizeof(T);
  const Eigen::Map<const RowMajor, 0, Strides> left(
      reinterpret_cast<const T*>(a.data), M, steps,
      Strides(a.row_bytes / kBytes, a.step_bytes / kBytes));
  const Eigen::Map<const ColumnMajor, 0, Strides> right(
      reinterpret_cast<const T*>(b.data), steps, N,
      Strides(b.panel_bytes / kBytes, b.step_bytes / kBytes));
  Eigen::Map<RowMajor, 0, Eigen::OuterStride<>> out(static_cast<T*>(c), M, N,
                                                    Eigen::OuterStride<>(c_row_stride));
  if (accumulate)
    out.noalias() += left * right;
  else
    out.noalias() = left * right;
}

#else

template <class T>
constexpr int kTileColumns = 2 * kVectorLanes<T>;

// Spelled out for each type: GCC forgets the attribute on a type that depends on a parameter.
template <class T>
struct Vectors;
template <>
struct Vectors<float> {
  typedef float Aligned __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
};
template <>
struct Vectors<double> {
  typedef double Aligned __attribute__((vector_size(kVectorBytes)));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
};

template <class T>
struct ElementLanes {
  using Sum = T;
  using Vector = typename Vectors<T>::Aligned;
  using UnalignedVector = typename Vectors<T>::Unaligned;
  using Units = Vector;
  static constexpr int kLanes = kVectorLanes<T>, kRows = kTileRows, kElementsPerUnit = 1,
                       kElementBytes = sizeof(T);

  ISA_INLINE Vector load(const char* p) { return *reinterpret_cast<const UnalignedVector*>(p); }
  ISA_INLINE Vector broadcast(const char* p) {
    T value;
    memcpy(&value, p, sizeof value);
    return value - Vector{};
  }
  ISA_INLINE Vector multiply_add(Vector sum, Vector left, Vector right) {
    return sum + left * right;
  }
};

#endif

template <class T>
void pack_b(const MatrixView& b, int64_t count, int64_t depth, void* packed) {
  constexpr int kLanes = kVectorLanes<T>, kWidth = kTileColumns<T>;
  T* target = static_cast<T*>(packed);
  if constexpr (sizeof(T) == 8)
    return pack_columns<T, double, kLanes, kWidth>(b, count, depth, target);
  else if (b.dtype == DType::bf16)
    return pack_columns<T, bfloat16, kLanes, kWidth>(b, count, depth, target);
  else if (b.dtype == DType::f16)
    return pack_columns<T, float16, kLanes, kWidth>(b, count, depth, target);
  else
    return pack_columns<T, float, kLanes, kWidth>(b, count, depth, target);
}

template <class T>
ReadableA copy_a(const MatrixView& a, int64_t rows, int64_t depth, void* copy) {
  T* target = static_cast<T*>(copy);
  if constexpr (sizeof(T) == 8)
    return copy_rows<T, double>(a, rows, depth, target);
  else if (a.dtype == DType::bf16)
    return copy_rows<T, bfloat16>(a, rows, depth, target);
  else if (a.dtype == DType::f16)
    return copy_rows<T, float16>(a, rows, depth, target);
  else
    return copy_rows<T, float>(a, rows, depth, target);
}

template <class T>
GemmKernels kernels() {
  GemmKernels kernels{.rows = 16,
                      .columns = 1,
                      .elements_per_unit = 1,
                      .unit_bytes = sizeof(T),
                      .pass_steps = 256,
                      .copy_a = copy_a<T>,
                      .pack_b = pack_b<T>};
#ifdef TENDRIL_ISA_generic
  kernels.block = eigen_block<T>;
#else
  using Lanes = ElementLanes<T>;
  kernels.rows = kTileRows;
  kernels.columns = kTileColumns<T>;
  kernels.pass_steps = kVectorBytes == 64 ? 256 : 384;  // panels of 32 and 24 KiB
  kernels.block = block<Lanes, T>;
  kernels.skinny = skinny<Lanes>;
  kernels.skinny_rows = kSkinnyRows;
  kernels.skinny_multiple = Lanes::kLanes;
#endif
  return kernels;
}

}  // namespace

GemmKernels gemm_kernels_f32() { return kernels<float>(); }
GemmKernels gemm_kernels_f64() { return kernels<double>(); }

}  // namespace tendril::cpu::TENDRIL_ISA
