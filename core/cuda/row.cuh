// A dense row in 16-byte pieces, wherever in memory it begins.
#pragma once

#include <type_traits>

#include <tendril/core/cuda/vector.cuh>

namespace tendril::cuda {

/// The n elements at `row`, cut at the 16-byte boundaries of memory: piece i is elements
/// [i kSize, (i + 1) kSize) of `base`, of which [begin, end) belong to the row. So only the first
/// and the last piece may be partial; those are read and written element by element. T may be
/// const.
template <class T>
struct RowPieces {
  using Element = std::remove_const_t<T>;
  static constexpr int kSize = kVector<Element>;

  T* base;
  int begin, end;

  __device__ RowPieces(T* row, int n) {
    begin = static_cast<int>(reinterpret_cast<uintptr_t>(row) % 16 / sizeof(T));
    base = row - begin;
    end = begin + n;
  }

  __device__ int count() const { return end == begin ? 0 : (end + kSize - 1) / kSize; }
  __device__ bool is_whole(int piece) const {
    return piece * kSize >= begin && (piece + 1) * kSize <= end;
  }
  /// Whether the element lies in the row.
  __device__ bool has(int at) const { return at >= begin && at < end; }
  /// The column of a piece's first element; negative when that lies before the row.
  __device__ int column(int piece) const { return piece * kSize - begin; }
  /// The same cuts of a copy of the row; `memory` is aligned to 16 bytes.
  __device__ RowPieces copied_to(T* memory) const {
    RowPieces other = *this;
    other.base = memory;
    return other;
  }

  /// Elements outside the row read as `otherwise`.
  template <class C>
  __device__ Vector<C, kSize> load(int piece, C otherwise) const {
    Vector<C, kSize> values;
    if (is_whole(piece)) {
      const auto raw = load_vector<Element>(base + piece * kSize);
#pragma unroll
      for (int k = 0; k < kSize; ++k) values.v[k] = static_cast<C>(raw.v[k]);
    } else {
#pragma unroll
      for (int k = 0; k < kSize; ++k) {
        const int at = piece * kSize + k;
        values.v[k] = has(at) ? static_cast<C>(base[at]) : otherwise;
      }
    }
    return values;
  }

  /// Rounds to T; elements outside the row stay as they are.
  template <class C>
  __device__ void store(int piece, const Vector<C, kSize>& values) const {
    if (is_whole(piece)) {
      Vector<Element> raw;
#pragma unroll
      for (int k = 0; k < kSize; ++k) raw.v[k] = static_cast<Element>(values.v[k]);
      store_vector<Element>(base + piece * kSize, raw);
    } else {
#pragma unroll
      for (int k = 0; k < kSize; ++k) {
        const int at = piece * kSize + k;
        if (has(at)) base[at] = static_cast<Element>(values.v[k]);
      }
    }
  }

  /// The same for values of a row that may be cut elsewhere: the first of them goes to `column`.
  template <class C>
  __device__ void store_at(int column, const Vector<C, kSize>& values) const {
    const int at = begin + column;
    if (at >= 0 && at % kSize == 0) return store(at / kSize, values);
#pragma unroll
    for (int k = 0; k < kSize; ++k)
      if (has(at + k)) base[at + k] = static_cast<Element>(values.v[k]);
  }
};

}  // namespace tendril::cuda
