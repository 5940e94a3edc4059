// Pieces of kSize neighbouring columns of a dense row, each the work of one thread.
#pragma once

#include <tendril/core/cuda/vector.cuh>

namespace tendril::cuda {

/// Whether rows of n elements from `first` on (and the others) all begin at 16 bytes.
template <class T, class... Pointers>
bool rows_are_aligned(int64_t n, const T* first, const Pointers*... others) {
  return n * static_cast<int64_t>(sizeof(T)) % 16 == 0 && aligned16(first, others...);
}

/// body(k) for the columns first + k < n of a piece, with k < kSize.
template <int kSize, class Body>
__device__ inline void for_columns(int first, int n, Body body) {
  if (first + kSize <= n) {
#pragma unroll
    for (int k = 0; k < kSize; ++k) body(k);
  } else if (first < n) {
#pragma unroll
    for (int k = 0; k < kSize; ++k)
      if (first + k < n) body(k);
  }
}

/// Columns [first, first + kSize) of a row of n, without conversion; 0 beyond its end. `first` is a
/// multiple of kSize; kSize elements of T are several 16-byte vectors, one, or a half or less.
/// `aligned` means that rows are whole vectors. Kernels must know it when they are compiled: loads
/// in two branches that meet again wait for each other.
template <int kSize, class T>
__device__ inline Vector<T, kSize> load_raw_columns(const T* row, int first, int n, bool aligned) {
  constexpr int kStep = kVector<T> < kSize ? kVector<T> : kSize;
  static_assert(kSize % kStep == 0);
  Vector<T, kSize> values;
  if (aligned) {
#pragma unroll
    for (int at = 0; at < kSize; at += kStep) {
      Vector<T, kStep> part = {};
      if (first + at < n) part = load_vector<T, kStep>(row + first + at);
#pragma unroll
      for (int k = 0; k < kStep; ++k) values.v[at + k] = part.v[k];
    }
  } else {
#pragma unroll
    for (int k = 0; k < kSize; ++k) values.v[k] = first + k < n ? row[first + k] : T();
  }
  return values;
}

/// The same for kVector<T> columns that are needed later. n = 0 reads nothing.
template <class T>
__device__ inline Packed load_packed_columns(const T* row, int first, int n, bool aligned) {
  if (!aligned) return pack(load_raw_columns<kVector<T>>(row, first, n, false));
  Packed packed = {};
  if (first < n) packed = load_packed(row + first);
  return packed;
}

template <class C, class T, int kSize>
__device__ inline Vector<C, kSize> convert_columns(const Vector<T, kSize>& raw) {
  Vector<C, kSize> values;
#pragma unroll
  for (int k = 0; k < kSize; ++k) values.v[k] = static_cast<C>(raw.v[k]);
  return values;
}

template <class C, int kSize, class T>
__device__ inline Vector<C, kSize> load_columns(const T* row, int first, int n, bool aligned) {
  return convert_columns<C>(load_raw_columns<kSize>(row, first, n, aligned));
}

/// Rounds to T; nothing is written beyond column n.
template <class C, int kSize, class T>
__device__ inline void store_columns(T* row, int first, int n, bool aligned,
                                     const Vector<C, kSize>& values) {
  constexpr int kStep = kVector<T>;
  static_assert(kSize % kStep == 0);
  if (aligned) {
#pragma unroll
    for (int at = 0; at < kSize; at += kStep) {
      if (first + at >= n) continue;
      Vector<T> part;
#pragma unroll
      for (int k = 0; k < kStep; ++k) part.v[k] = static_cast<T>(values.v[at + k]);
      store_vector<T>(row + first + at, part);
    }
  } else {
    for_columns<kSize>(first, n, [&](int k) { row[first + k] = static_cast<T>(values.v[k]); });
  }
}

}  // namespace tendril::cuda
