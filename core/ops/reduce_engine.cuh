// Reductions on the GPU: along rows (dense or gathered) and down dense columns, each in one or two
// stages. Internal; the twin of reduce_engine.h.
//
// A reducer says what is reduced:
//   using Element = ...;                       of x
//   using Partial = ...;                       what a part of the values boils down to; combine()
//                                              gives the same in any order
//   __device__ Partial identity() const;       of no values
//   __device__ Context context(int64_t result) const;           read once per result
//   template <int N> __device__ void add(Partial& a, const Vector<Element, N>& values,
//                                        Context context, int64_t position, int64_t step) const;
//                                              values at positions position + k step of one result
//   __device__ void combine(Partial& a, const Partial& b) const;
//   __device__ void write(int64_t result, const Partial& total) const;
//
// Work is cut by size and by the number of multiprocessors, and parts meet in a fixed order: the
// same bits on every run.
#pragma once

#include <algorithm>
#include <cstring>

#include <tendril/core/ops/reduce_layout.h>
#include <tendril/core/cuda/block.cuh>
#include <tendril/core/cuda/columns.cuh>
#include <tendril/core/cuda/layout.cuh>
#include <tendril/core/cuda/row.cuh>

namespace tendril::ops::cuda {

using namespace tendril::cuda;

inline constexpr int kReduceThreads = 256;

/// Memory for partials that shuffles can move in words.
template <class Partial, int kCount>
struct SharedPartials {
  alignas(16) unsigned char bytes[kCount * sizeof(Partial)];
  __device__ Partial* data() { return reinterpret_cast<Partial*>(bytes); }
};

template <class Partial>
__device__ inline Partial shuffle_xor(const Partial& value, int offset) {
  static_assert(sizeof(Partial) % 4 == 0);
  constexpr int kWords = sizeof(Partial) / 4;
  uint32_t words[kWords];
  memcpy(words, &value, sizeof value);
#pragma unroll
  for (int i = 0; i < kWords; ++i) words[i] = __shfl_xor_sync(0xFFFFFFFFu, words[i], offset);
  Partial other;
  memcpy(&other, words, sizeof other);
  return other;
}

template <class Reducer>
__device__ inline void combine_warp(const Reducer& reducer, typename Reducer::Partial& mine) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    reducer.combine(mine, shuffle_xor(mine, offset));
}

/// Where a stage puts its results: at their place, or in partials (chunks, results).
template <class Reducer>
struct Outcome {
  Reducer reducer;
  typename Reducer::Partial* partials;  // null: there is one chunk
  int64_t results;

  __device__ void put(int64_t result, int64_t chunk, const typename Reducer::Partial& total) const {
    if (partials)
      partials[chunk * results + result] = total;
    else
      reducer.write(result, total);
  }
};

// ---------------------------------------------------------------- along rows

struct RowWalk {
  Layout kept, reduced;
  bool dense;     // the values of a result are neighbours
  int64_t count;  // values per result
  int64_t chunk, chunks;
  int width;  // threads per chunk: 1, a warp or a block
};

/// Adds n neighbours, of which the first is at `position`.
template <class Reducer, class Context>
__device__ inline void add_dense(const Reducer& reducer, typename Reducer::Partial& mine,
                                 const typename Reducer::Element* x, int n, Context context,
                                 int64_t position, int lane, int width) {
  using T = typename Reducer::Element;
  const RowPieces<const T> row(x, n);
  constexpr int kSize = RowPieces<const T>::kSize;
  const int first = row.begin > 0 ? 1 : 0, last = row.end / kSize;  // pieces that are whole
#pragma unroll 4
  for (int piece = first + lane; piece < last; piece += width)
    reducer.add(mine, load_vector<T>(row.base + piece * kSize), context,
                position + row.column(piece), 1);
  const auto add_partial_piece = [&](int piece) {
    for (int at = piece * kSize; at < (piece + 1) * kSize; ++at)
      if (row.has(at))
        reducer.add(mine, Vector<T, 1>{row.base[at]}, context, position + at - row.begin, 1);
  };
  if (lane != 0) return;
  if (first == 1) add_partial_piece(0);
  if (last >= first && last < row.count()) add_partial_piece(last);
}

template <class Reducer>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_rows_kernel(const typename Reducer::Element* x, RowWalk walk, Outcome<Reducer> outcome) {
  using T = typename Reducer::Element;
  using Partial = typename Reducer::Partial;
  __shared__ SharedPartials<Partial, kReduceThreads / kWarp> shared;
  const Reducer& reducer = outcome.reducer;
  const int lane = threadIdx.x % walk.width;
  const int64_t item =
      static_cast<int64_t>(blockIdx.x) * (kReduceThreads / walk.width) + threadIdx.x / walk.width;
  const int64_t result = item / walk.chunks, chunk = item % walk.chunks;
  if (result >= outcome.results) return;  // all threads of the chunk

  const int64_t start = chunk * walk.chunk;
  const int64_t n = walk.count - start < walk.chunk ? walk.count - start : walk.chunk;
  const T* values = x + walk.kept.offset(result);
  const auto context = reducer.context(result);
  Partial mine = reducer.identity();
  if (walk.dense) {
    add_dense(reducer, mine, values + start, static_cast<int>(n), context, start, lane, walk.width);
  } else {
#pragma unroll 4
    for (int64_t i = start + lane; i < start + n; i += walk.width)
      reducer.add(mine, Vector<T, 1>{values[walk.reduced.offset(i)]}, context, i, 1);
  }

  if (walk.width > 1) combine_warp(reducer, mine);
  if (walk.width > kWarp) {
    if (threadIdx.x % kWarp == 0) shared.data()[threadIdx.x / kWarp] = mine;
    __syncthreads();
    for (int i = 1; threadIdx.x == 0 && i < kReduceThreads / kWarp; ++i)
      reducer.combine(mine, shared.data()[i]);
  }
  if (lane == 0) outcome.put(result, chunk, mine);
}

// ---------------------------------------------------------------- down columns

/// x is (outer, rows, columns) with dense columns. Threads (x, y) of a block: x over pieces of
/// columns, y over rows.
struct ColumnWalk {
  Layout outer, rows;
  bool even_rows;  // row i lies i row_step behind the first
  int64_t row_step;
  int64_t columns, tiles;  // tiles of columns, a block's width each
  int64_t count;           // rows
  int64_t chunk, chunks;
  bool aligned;  // all rows begin at 16 bytes

  __device__ int64_t row_offset(int64_t row) const {
    return even_rows ? row * row_step : rows.offset(row);
  }
};

/// Columns of one thread.
template <class T>
inline constexpr int kReduceColumns = kVector<T> < 8 ? kVector<T> : 8;

template <class Reducer>
struct ColumnPartials {
  using T = typename Reducer::Element;
  using Context = decltype(std::declval<Reducer>().context(0));
  static constexpr int kSize = kReduceColumns<T>;
  typename Reducer::Partial sums[kSize];
  Context contexts[kSize];

  __device__ ColumnPartials(const Reducer& reducer, int64_t first_result, int first, int columns) {
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      sums[k] = reducer.identity();
      contexts[k] = Context();
      if (first + k < columns) contexts[k] = reducer.context(first_result + k);
    }
  }

  // kRows rows from `row` on, `step` apart.
  template <int kRows, bool kPlain>
  __device__ void add(const Reducer& reducer, const T* x, const ColumnWalk& walk, int first,
                      int64_t row, int64_t step) {
    Vector<T, kSize> loaded[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = row + r * step;
      const T* from = x + (kPlain ? at * walk.row_step : walk.row_offset(at));
      loaded[r] = load_raw_columns<kSize>(from, first, static_cast<int>(walk.columns),
                                          kPlain || walk.aligned);
    }
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      Vector<T, kRows> values;
#pragma unroll
      for (int r = 0; r < kRows; ++r) values.v[r] = loaded[r].v[k];
      reducer.add(sums[k], values, contexts[k], row, step);
    }
  }
};

// kPlain: rows are whole vectors and lie at even distances. Compiled in: loads behind a condition
// that is known only when a kernel runs wait for each other.
template <class Reducer, bool kPlain>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_columns_kernel(const typename Reducer::Element* x, ColumnWalk walk,
                          Outcome<Reducer> outcome) {
  using T = typename Reducer::Element;
  using Partial = typename Reducer::Partial;
  constexpr int kSize = kReduceColumns<T>, kBatch = 4;
  __shared__ SharedPartials<Partial, kReduceThreads * kSize> shared;
  const Reducer& reducer = outcome.reducer;
  const int64_t tile = blockIdx.x % walk.tiles, chunk = blockIdx.x / walk.tiles % walk.chunks;
  const int64_t outer = blockIdx.x / walk.tiles / walk.chunks;
  const int first = static_cast<int>((tile * blockDim.x + threadIdx.x) * kSize);
  const int64_t first_result = outer * walk.columns + first;
  const T* values = x + walk.outer.offset(outer);
  const int64_t step = blockDim.y;
  const int64_t end = (chunk + 1) * walk.chunk < walk.count ? (chunk + 1) * walk.chunk : walk.count;

  ColumnPartials<Reducer> mine(reducer, first_result, first, static_cast<int>(walk.columns));
  int64_t row = chunk * walk.chunk + threadIdx.y;
  if (first < walk.columns) {
    for (; row + (kBatch - 1) * step < end; row += kBatch * step)
      mine.template add<kBatch, kPlain>(reducer, values, walk, first, row, step);
    for (; row < end; row += step)
      mine.template add<1, kPlain>(reducer, values, walk, first, row, step);
  }

  // The threads of a column meet as a tree.
  Partial* all = shared.data() + (threadIdx.y * blockDim.x + threadIdx.x) * kSize;
#pragma unroll
  for (int k = 0; k < kSize; ++k) all[k] = mine.sums[k];
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y >= half) continue;
    for (int k = 0; k < kSize; ++k) reducer.combine(all[k], all[half * blockDim.x * kSize + k]);
  }
  if (threadIdx.y > 0) return;
  for_columns<kSize>(first, static_cast<int>(walk.columns),
                     [&](int k) { outcome.put(first_result + k, chunk, all[k]); });
}

// ---------------------------------------------------------------- the second stage

/// Threads (x, y) of a block: x over results, y over chunks. Without chunks a result is of nothing.
template <class Reducer>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_partials_kernel(const typename Reducer::Partial* partials, int64_t chunks,
                           int64_t results, Reducer reducer) {
  using Partial = typename Reducer::Partial;
  __shared__ SharedPartials<Partial, kReduceThreads> shared;
  const int64_t result = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  Partial mine = reducer.identity();
  if (result < results)
    for (int64_t chunk = threadIdx.y; chunk < chunks; chunk += blockDim.y)
      reducer.combine(mine, partials[chunk * results + result]);
  Partial* all = shared.data() + threadIdx.y * blockDim.x + threadIdx.x;
  *all = mine;
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) reducer.combine(*all, all[half * blockDim.x]);
  }
  if (threadIdx.y == 0 && result < results) reducer.write(result, *all);
}

// ---------------------------------------------------------------- on the host

inline unsigned power_of_two_from(int64_t count, unsigned most) {
  unsigned power = 1;
  while (power < most && power < count) power *= 2;
  return power;
}

/// How many chunks of at least `least` values give every multiprocessor `each` blocks of `items`.
inline int64_t chunks_for(Device device, int64_t items, int64_t each, int64_t count,
                          int64_t least) {
  const int64_t blocks = each * properties(device).multiprocessors;
  return std::clamp<int64_t>((blocks + items - 1) / items, 1, std::max<int64_t>(1, count / least));
}

template <class Reducer>
Tensor partial_memory(int64_t chunks, int64_t results, Device device) {
  if (chunks <= 1) return {};
  return Tensor::empty({chunks * results * static_cast<int64_t>(sizeof(typename Reducer::Partial))},
                       u8, device);
}

template <class Reducer>
void reduce_partials(const Tensor& memory, int64_t chunks, int64_t results, const Reducer& reducer,
                     cudaStream_t on) {
  const unsigned width = power_of_two_from(results, kWarp);
  const auto* partials =
      memory.defined() ? static_cast<const typename Reducer::Partial*>(memory.raw_data()) : nullptr;
  reduce_partials_kernel<<<blocks_for(results, width), dim3(width, kReduceThreads / width), 0,
                           on>>>(partials, chunks, results, reducer);
}

template <class Reducer>
void reduce_rows(const typename Reducer::Element* x, const ReduceLayout& layout,
                 const Reducer& reducer, Device device, cudaStream_t on) {
  RowWalk walk{Layout(layout.kept, layout.kept_strides),
               Layout(layout.reduced, layout.reduced_strides),
               layout.rows_are_dense(),
               layout.count,
               layout.count,
               1,
               kReduceThreads};
  if (layout.count <= 16 || (!walk.dense && layout.count <= 256 && layout.results >= 1 << 16))
    walk.width = 1;
  else if (layout.count <= 2048 && layout.results >= 64)
    walk.width = kWarp;
  else
    walk.chunks = chunks_for(device, layout.results, 8, layout.count, 4096);
  constexpr int64_t kLongest = int64_t{1} << 30;  // positions within a chunk fit in 32 bits
  walk.chunks = std::max(walk.chunks, (layout.count + kLongest - 1) / kLongest);
  walk.chunk = ((layout.count + walk.chunks - 1) / walk.chunks + 63) / 64 * 64;
  walk.chunks = (layout.count + walk.chunk - 1) / walk.chunk;

  const Tensor memory = partial_memory<Reducer>(walk.chunks, layout.results, device);
  const Outcome<Reducer> outcome{
      reducer,
      memory.defined() ? static_cast<typename Reducer::Partial*>(memory.raw_data()) : nullptr,
      layout.results};
  const unsigned blocks = blocks_for(layout.results * walk.chunks, kReduceThreads / walk.width);
  reduce_rows_kernel<<<blocks, kReduceThreads, 0, on>>>(x, walk, outcome);
  if (walk.chunks > 1) reduce_partials(memory, walk.chunks, layout.results, reducer, on);
}

/// Whether 16-byte accesses fit every row: the strides of all axes but the last of kept.
template <class T>
bool columns_are_aligned(const T* x, const ReduceLayout& layout) {
  const auto even = [](int64_t stride) {
    return stride * static_cast<int64_t>(sizeof(T)) % 16 == 0;
  };
  bool aligned = aligned16(x);
  for (int64_t i = 0; i + 1 < layout.kept.rank(); ++i)
    aligned = aligned && even(layout.kept_strides[i]);
  for (int64_t stride : layout.reduced_strides) aligned = aligned && even(stride);
  return aligned;
}

template <class Reducer>
void reduce_columns(const typename Reducer::Element* x, const ReduceLayout& layout,
                    const Reducer& reducer, Device device, cudaStream_t on) {
  constexpr int kSize = kReduceColumns<typename Reducer::Element>;
  const int64_t columns = layout.kept.back(), outer = layout.results / columns;
  const unsigned width = power_of_two_from((columns + kSize - 1) / kSize, kWarp);
  const dim3 threads(width, kReduceThreads / width);
  Shape kept = layout.kept, kept_strides = layout.kept_strides;
  kept.erase(kept.rank() - 1), kept_strides.erase(kept_strides.rank() - 1);
  ColumnWalk walk{Layout(kept, kept_strides),
                  Layout(layout.reduced, layout.reduced_strides),
                  layout.reduced.rank() == 1,
                  layout.reduced_strides.back(),
                  columns,
                  (columns + width * kSize - 1) / (width * kSize),
                  layout.count,
                  layout.count,
                  1,
                  columns_are_aligned(x, layout)};
  walk.chunks = chunks_for(device, walk.tiles * outer, 3, layout.count, 8 * threads.y);
  walk.chunk = (layout.count + walk.chunks - 1) / walk.chunks;
  walk.chunks = (layout.count + walk.chunk - 1) / walk.chunk;

  const Tensor memory = partial_memory<Reducer>(walk.chunks, layout.results, device);
  const Outcome<Reducer> outcome{
      reducer,
      memory.defined() ? static_cast<typename Reducer::Partial*>(memory.raw_data()) : nullptr,
      layout.results};
  const unsigned blocks = blocks_for(walk.tiles * walk.chunks * outer, 1);
  const auto kernel = walk.aligned && walk.even_rows ? reduce_columns_kernel<Reducer, true>
                                                     : reduce_columns_kernel<Reducer, false>;
  kernel<<<blocks, threads, 0, on>>>(x, walk, outcome);
  if (walk.chunks > 1) reduce_partials(memory, walk.chunks, layout.results, reducer, on);
}

/// Whether the values are rows of dense columns, and enough of them for a block.
inline bool has_large_columns(const ReduceLayout& layout) {
  constexpr int64_t kFewest = 4096, kMost = int64_t{1} << 30;
  if (layout.rows_are_dense() || !layout.columns_are_dense()) return false;
  const int64_t columns = layout.kept.back();
  return columns < kMost && layout.count >= (kFewest + columns - 1) / columns;
}

/// Calls reducer.write once for every result.
template <class Reducer>
void reduce(const char* op, const Tensor& x, const ReduceLayout& layout, const Reducer& reducer) {
  if (layout.results == 0) return;
  const auto* values = x.data<typename Reducer::Element>();
  const cudaStream_t on = stream(x.device());
  if (layout.count == 0)
    reduce_partials(Tensor(), 0, layout.results, reducer, on);
  else if (has_large_columns(layout))
    reduce_columns(values, layout, reducer, x.device(), on);
  else
    reduce_rows(values, layout, reducer, x.device(), on);
  TENDRIL_CUDA_CHECK_LAUNCH(op);
}

}  // namespace tendril::ops::cuda
