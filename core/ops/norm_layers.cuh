// What the forward and backward kernels of the normalisation layers share.
//
// Fast kernels keep a row in registers: a warp per row, or for longer rows a block, each thread
// with kPieces pieces of 16 bytes, always of the same columns. General kernels take any length and
// f64: a block per row that reads the row anew in each pass. n is the length of a row.
#pragma once

#include <tendril/core/ops/copy.h>
#include <tendril/core/cuda/block.cuh>
#include <tendril/core/cuda/columns.cuh>
#include <tendril/core/cuda/runtime.cuh>

namespace tendril::ops::cuda {

using namespace tendril::cuda;

/// A weight or bias: numbers in the type of the rows or in their compute type.
struct Channels {
  const void* data = nullptr;  // null: the layer has none
  bool wide = false;           // in the compute type
};

/// `memory` keeps a converted copy alive until the kernels are queued.
inline Channels channels_of(const Tensor& parameter, DType rows, Tensor& memory) {
  if (!parameter.defined()) return {};
  const DType compute = accumulate_dtype(rows);
  const bool as_is = parameter.dtype() == rows || parameter.dtype() == compute;
  memory = contiguous(as_is ? parameter : cast(parameter, compute));
  if (!aligned16(memory.raw_data())) memory = clone(memory);
  return {memory.raw_data(), memory.dtype() == compute};
}

/// Error when the rows of x are too long for the kernels' 32-bit columns.
inline int row_length(const char* op, const Tensor& x) {
  constexpr int64_t kMost = int64_t{1} << 30;
  TENDRIL_CHECK(x.size(-1) <= kMost, "[", op, "] rows are too long for a GPU; got ", x.size(-1),
                " channels; at most ", kMost);
  return static_cast<int>(x.size(-1));
}

/// One number of a weight or bias in the compute type.
template <class T>
__device__ inline compute_t<T> channel(const Channels& p, int at, compute_t<T> otherwise) {
  if (!p.data) return otherwise;
  return p.wide ? static_cast<const compute_t<T>*>(p.data)[at]
                : static_cast<compute_t<T>>(static_cast<const T*>(p.data)[at]);
}

/// The numbers for a piece of the row.
template <class T>
__device__ inline Vector<compute_t<T>, kVector<T>> channels(const Channels& p, int first, int n,
                                                            bool aligned, compute_t<T> otherwise) {
  using C = compute_t<T>;
  constexpr int kSize = kVector<T>;
  if (!p.data) {
    Vector<C, kSize> values;
#pragma unroll
    for (int k = 0; k < kSize; ++k) values.v[k] = otherwise;
    return values;
  }
  if (p.wide) return load_columns<C, kSize>(static_cast<const C*>(p.data), first, n, aligned);
  return load_columns<C, kSize>(static_cast<const T*>(p.data), first, n, aligned);
}

/// The sum over the threads of a row. `shared` holds kWarp values.
template <bool kWarpRow, class C>
__device__ inline C row_sum(C value, C* shared) {
  if constexpr (kWarpRow)
    return warp_sum(value);
  else
    return block_sum(value, shared);
}

inline constexpr int kWarpsPerBlock = 8;     // where a warp has a row
inline constexpr int kMostRowThreads = 512;  // where a block has one

template <int kPieces, bool kWarpRow>
struct RowShape {
  static constexpr int pieces = kPieces;
  static constexpr bool warp_row = kWarpRow;
  int threads;  // of a block
};

/// Calls body(RowShape) with the shape for rows of n elements of T; false when there is none.
template <class T, class Body>
bool visit_row_shape(int64_t n, Body body) {
  constexpr int kThreads = kWarpsPerBlock * kWarp;
  const int64_t pieces = (n + kVector<T> - 1) / kVector<T>;
  const auto threads = [&](int64_t each) {
    return static_cast<int>(((pieces + each - 1) / each + kWarp - 1) / kWarp * kWarp);
  };
  if (pieces <= kWarp)
    body(RowShape<1, true>{kThreads});
  else if (pieces <= 2 * kWarp)
    body(RowShape<2, true>{kThreads});
  else if (pieces <= 3 * kWarp)
    body(RowShape<3, true>{kThreads});
  else if (pieces <= 4 * kWarp)
    body(RowShape<4, true>{kThreads});
  else if (pieces <= kMostRowThreads)
    body(RowShape<1, false>{threads(1)});
  else if (pieces <= 2 * kMostRowThreads)
    body(RowShape<2, false>{threads(2)});
  else
    return false;
  return true;
}

/// body(T) for the element types that have fast kernels; false for f64.
template <class Body>
bool visit_fast_type(DType dtype, Body body) {
  if (dtype == DType::f32)
    body(TypeTag<float>{});
  else if (dtype == DType::bf16)
    body(TypeTag<bfloat16>{});
  else if (dtype == DType::f16)
    body(TypeTag<float16>{});
  else
    return false;
  return true;
}

}  // namespace tendril::ops::cuda
