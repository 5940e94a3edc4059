// The two loops under every reduction: along dense rows, and down dense columns. Internal.
//
// A reducer says what is reduced:
//   using Partial = ...;                       what a part of the values boils down to
//   Partial identity() const;                  of no values
//   Partial row(const T* x, int64_t n, int64_t result, int64_t start) const;
//                                              of values [start, start + n) of one result, dense at
//                                              x
//   void combine(Partial& a, const Partial& b) const;           b comes after a
//   static constexpr bool has_columns;         whether there is a kernel that accumulates `rows`
//   rows of
//                                              `columns` results (else columns are copied to rows):
//   void columns(const T* x, int64_t stride, int64_t rows, int64_t columns, Partial* sums,
//                int64_t first_result) const;
//
// Work is cut by size alone and partials are combined in order: the same bits on any thread count.
#pragma once

#include <algorithm>

#include <tendril/core/ops/reduce_layout.h>
#include <tendril/core/threads.h>

namespace tendril::ops {

inline constexpr int64_t kReduceChunk = 1 << 15;  // values per task

/// Results per column task: their sums stay in L1; without a columns kernel, so do 16 transposed
/// columns.
template <class Reducer>
inline constexpr int64_t kReduceColumns = Reducer::has_columns ? 512 : 64;

/// Along rows. Values that are not dense are gathered chunk by chunk.
template <class T, class Reducer>
void reduce_rows(const T* x, const ReduceLayout& layout, const Reducer& reducer,
                 typename Reducer::Partial* out) {
  using Partial = typename Reducer::Partial;
  const int64_t n = layout.count;
  const bool dense = layout.rows_are_dense();
  const auto part = [&](int64_t result, int64_t start, int64_t count, T* scratch) -> Partial {
    const T* row = x + offset_of(result, layout.kept, layout.kept_strides);
    if (dense) return reducer.row(row + start, count, result, start);
    gather_range(row, layout.reduced, layout.reduced_strides, start, count, scratch);
    return reducer.row(scratch, count, result, start);
  };
  const int64_t chunks = (n + kReduceChunk - 1) / kReduceChunk;
  if (chunks <= 1) {  // several results per task
    const int64_t per_task = kReduceChunk / std::max<int64_t>(n, 4);
    parallel_for(layout.results, per_task, [&](int64_t begin, int64_t end) {
      const ThreadScratch<T> scratch(dense ? 0 : n);
      for (int64_t i = begin; i < end; ++i) out[i] = part(i, 0, n, scratch.get());
    });
    return;
  }
  const Scratch<Partial> partials(layout.results * chunks);  // several tasks per result
  parallel_for(layout.results * chunks, 1, [&](int64_t begin, int64_t end) {
    const ThreadScratch<T> scratch(dense ? 0 : kReduceChunk);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t start = i % chunks * kReduceChunk;
      partials[i] = part(i / chunks, start, std::min(kReduceChunk, n - start), scratch.get());
    }
  });
  for (int64_t i = 0; i < layout.results; ++i) {
    out[i] = partials[i * chunks];
    for (int64_t k = 1; k < chunks; ++k) reducer.combine(out[i], partials[i * chunks + k]);
  }
}

/// What Reducer::columns does, for reducers without it: 16 columns at a time are copied to dense
/// rows. `start` is the position of the first row among the values of a result.
template <class T, class Reducer>
void transpose_and_reduce(const T* x, int64_t stride, int64_t rows, int64_t columns,
                          const Reducer& reducer, typename Reducer::Partial* sums,
                          int64_t first_result, int64_t start) {
  constexpr int64_t kTogether = 16;
  const int64_t distance = rows + 16;  // of dense rows; powers of two would collide in the cache
  const ThreadScratch<T> scratch(kTogether * distance);
  T* const dense = scratch.get();
  for (int64_t first = 0; first < columns; first += kTogether) {
    const int64_t width = std::min(kTogether, columns - first);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < width; ++k) dense[k * distance + r] = x[r * stride + first + k];
    for (int64_t k = 0; k < width; ++k) {
      const int64_t result = first_result + first + k;
      reducer.combine(sums[first + k], reducer.row(dense + k * distance, rows, result, start));
    }
  }
}

/// Down columns: x is (outer, rows, C) with dense C; e.g. a bias gradient (B*T, C) -> (C).
template <class T, class Reducer>
void reduce_columns(const T* x, const ReduceLayout& layout, const Reducer& reducer,
                    typename Reducer::Partial* out) {
  using Partial = typename Reducer::Partial;
  constexpr int64_t kTile = kReduceColumns<Reducer>;
  const int64_t rows = layout.count, C = layout.kept.back(), outer = layout.results / C;
  const int64_t tiles = (C + kTile - 1) / kTile;
  const int64_t chunk = std::max<int64_t>(kReduceChunk / std::min(C, kTile), 8);
  const int64_t chunks = (rows + chunk - 1) / chunk;
  const int64_t run = layout.reduced.back(), stride = layout.reduced_strides.back();
  const Scratch<Partial> scratch(chunks > 1 ? chunks * layout.results : 0);
  Partial* partials = chunks > 1 ? scratch.data() : out;  // (chunks, outer, C)

  const auto reduce_tile = [&](int64_t task) {
    const int64_t tile = task % tiles, block = task / tiles % outer, k = task / tiles / outer;
    const int64_t column = tile * kTile, width = std::min(kTile, C - column);
    const int64_t result = block * C + column;
    Partial* sums = partials + k * layout.results + result;
    std::fill_n(sums, width, reducer.identity());
    const T* base = x + offset_of(result, layout.kept, layout.kept_strides);
    const int64_t last = std::min(rows, (k + 1) * chunk);
    for (int64_t row = k * chunk; row < last;) {  // runs of equally spaced rows
      const int64_t length = std::min(run - row % run, last - row);
      const T* first = base + offset_of(row, layout.reduced, layout.reduced_strides);
      if constexpr (Reducer::has_columns)
        reducer.columns(first, stride, length, width, sums, result);
      else
        transpose_and_reduce(first, stride, length, width, reducer, sums, result, row);
      row += length;
    }
  };
  const int64_t tile_size = std::min(rows, chunk) * std::min(C, kTile);
  const int64_t per_task = std::max<int64_t>(1, kReduceChunk / tile_size);
  parallel_for(chunks * outer * tiles, per_task, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) reduce_tile(i);
  });
  if (chunks == 1) return;
  parallel_for(layout.results, 4096, [&](int64_t begin, int64_t end) {
    std::copy(partials + begin, partials + end, out + begin);
    for (int64_t k = 1; k < chunks; ++k)
      for (int64_t i = begin; i < end; ++i)
        reducer.combine(out[i], partials[k * layout.results + i]);
  });
}

/// Writes one Partial per result to `out`.
template <class T, class Reducer>
void reduce(const T* x, const ReduceLayout& layout, const Reducer& reducer,
            typename Reducer::Partial* out) {
  if (layout.results == 0) return;
  if (layout.count == 0) {
    std::fill_n(out, layout.results, reducer.identity());
    return;
  }
  if (!layout.rows_are_dense() && layout.columns_are_dense())
    return reduce_columns(x, layout, reducer, out);
  reduce_rows(x, layout, reducer, out);
}

}  // namespace tendril::ops
