// Fused attention for every floating dtype, head size and layout, without tensor cores: tiles of
// 64 queries by 64 keys, 4 x 4 numbers per thread, the formulas of attention.h as they stand there.
// A block makes 64 columns of its result; with longer heads the scores are computed once for each
// 64 columns.

#include <tendril/core/cuda/block.cuh>
#include <tendril/core/cuda/shared.cuh>
#include <tendril/core/ops/attention_kernels.cuh>

namespace tendril::ops::cuda {
namespace {

using namespace tendril::cuda;

constexpr int kTile = 64, kThreads = 256, kSide = 16, kEach = kTile / kSide;
constexpr int kPitch = kTile + 1;
// Channels of a score product at a time; fewer doubles, so that all fits in 99 KB.
template <class C>
constexpr int kChunk = sizeof(C) == 8 ? 16 : 32;
template <class C>
constexpr int kChunkPitch = kChunk<C> + 1;

// Rows ty + 16 i and columns tx + 16 j of a tile belong to thread (ty, tx).
template <class C>
using Square = C[kEach][kEach];

__device__ inline int thread_row(int i) {
  return static_cast<int>(threadIdx.x) / kSide + kSide * i;
}
__device__ inline int thread_column(int j) {
  return static_cast<int>(threadIdx.x) % kSide + kSide * j;
}

template <class C>
struct SharedTiles {
  C left[kTile * kChunkPitch<C>], right[kTile * kChunkPitch<C>];  // operands of a score product
  C scores[kTile * kPitch], operand[kTile * kPitch];              // and of the product after it
  C largest[kTile], total[kTile], shrink[kTile];
};

template <class C>
__device__ SharedTiles<C>& shared_tiles() {
  return *reinterpret_cast<SharedTiles<C>*>(dynamic_shared());
}

// Rows of one head, of which `rows` exist.
template <class T>
struct Rows {
  T* data;
  int64_t row, column;
  int rows;

  __device__ Rows(const HeadView& x, int64_t b, int64_t h, int64_t t, int64_t T_all)
      : data(x.rows<T>(b, h, t)),
        row(x.row),
        column(x.column),
        rows(static_cast<int>(T_all - t < kTile ? T_all - t : kTile)) {}
};

// tile[i][j] = x[i][first + j], 0 outside.
template <int kColumns, class T, class C>
__device__ void load(C* tile, const Rows<T>& x, int64_t first, int64_t D) {
  for (int index = static_cast<int>(threadIdx.x); index < kTile * kColumns; index += kThreads) {
    const int i = index / kColumns, j = index % kColumns;
    tile[i * (kColumns + 1) + j] = i < x.rows && first + j < D
                                       ? static_cast<C>(x.data[i * x.row + (first + j) * x.column])
                                       : C(0);
  }
}

// result = left right^T over all channels.
template <class T, class C>
__device__ void score_product(Square<C>& result, const Rows<T>& left, const Rows<T>& right,
                              int64_t D) {
  SharedTiles<C>& shared = shared_tiles<C>();
  for (int i = 0; i < kEach; ++i)
    for (int j = 0; j < kEach; ++j) result[i][j] = C(0);
  for (int64_t first = 0; first < D; first += kChunk<C>) {
    __syncthreads();
    load<kChunk<C>>(shared.left, left, first, D);
    load<kChunk<C>>(shared.right, right, first, D);
    __syncthreads();
#pragma unroll 4
    for (int k = 0; k < kChunk<C>; ++k) {
      C a[kEach], b[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        a[i] = shared.left[thread_row(i) * kChunkPitch<C> + k];
        b[i] = shared.right[thread_column(i) * kChunkPitch<C> + k];
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j) result[i][j] += a[i] * b[j];
    }
  }
}

// sum += scores operand, or scores^T operand.
template <bool kTransposed, class C>
__device__ void accumulate(Square<C>& sum) {
  const SharedTiles<C>& shared = shared_tiles<C>();
#pragma unroll 4
  for (int k = 0; k < kTile; ++k) {
    C a[kEach], b[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      a[i] = kTransposed ? shared.scores[k * kPitch + thread_row(i)]
                         : shared.scores[thread_row(i) * kPitch + k];
      b[i] = shared.operand[k * kPitch + thread_column(i)];
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i)
#pragma unroll
      for (int j = 0; j < kEach; ++j) sum[i][j] += a[i] * b[j];
  }
}

template <class T, class C>
__device__ void store(const Square<C>& x, const Rows<T>& result, int64_t first, int64_t D) {
  for (int i = 0; i < kEach; ++i)
    for (int j = 0; j < kEach; ++j)
      if (thread_row(i) < result.rows && first + thread_column(j) < D)
        result.data[thread_row(i) * result.row + (first + thread_column(j)) * result.column] =
            static_cast<T>(x[i][j]);
}

// The product q k as a score: scaled, masked, -inf where query t does not see key s.
template <class C>
__device__ C score(C product, const AttentionProblem& p, int64_t b, int64_t h, int64_t t,
                   int64_t s) {
  if (t >= p.bounds.Tq || s < p.bounds.first_key(t) || s >= p.bounds.last_key(t))
    return -static_cast<C>(INFINITY);
  C result = product * static_cast<C>(p.scale);
  if (p.mask_kind != MaskKind::none) result += p.mask_at<C>(b, h, t, s);
  return result;
}

// 0 or 1 / (1 - p).
template <class C>
__device__ C dropout_factor(const AttentionProblem& p, int64_t position, int64_t s) {
  if (!p.drops) return C(1);
  const auto element = static_cast<uint64_t>(position * p.bounds.Tk + s);
  return p.key.bits(element) < p.drop_below ? C(0) : static_cast<C>(p.kept);
}

// What a block works on, from its number in the sequence: the result's columns first, then tiles,
// then heads.
struct Place {
  int64_t b, h, tile, column;

  __device__ Place(const AttentionProblem& p, uint32_t block, int64_t heads, int64_t rows) {
    const int64_t columns = max(int64_t{1}, (p.D + kTile - 1) / kTile),
                  tiles = (rows + kTile - 1) / kTile;
    int64_t index = block;
    column = index % columns * kTile;
    index /= columns;
    tile = index % tiles * kTile;
    index /= tiles;
    h = index % heads;
    b = index / heads;
  }
  static int64_t count(const AttentionProblem& p, int64_t heads, int64_t rows) {
    return std::max<int64_t>(1, (p.D + kTile - 1) / kTile) * ((rows + kTile - 1) / kTile) * heads *
           p.B;
  }
};

// ---------------------------------------------------------------- forward

// Turns the tile's scores into probabilities relative to the new largest score of their row, and
// drops; four neighbouring lanes share a row.
template <class C>
__device__ void soft_maximum(const AttentionProblem& p, int64_t b, int64_t h, int64_t t0,
                             int64_t s0) {
  SharedTiles<C>& shared = shared_tiles<C>();
  const int row = static_cast<int>(threadIdx.x) / 4, lane = static_cast<int>(threadIdx.x) % 4;
  C* scores = shared.scores + row * kPitch;
  const C before = shared.largest[row];
  C top = before;
  for (int s = lane; s < kTile; s += 4) top = scores[s] > top ? scores[s] : top;
  top = max(top, __shfl_xor_sync(~0u, top, 1));
  top = max(top, __shfl_xor_sync(~0u, top, 2));
  const C base = top == -static_cast<C>(INFINITY) ? C(0) : top;  // NaN scores stay NaN
  const int64_t position = p.position(b, h, t0 + row);
  C sum = C(0);
  for (int s = lane; s < kTile; s += 4) {
    const C probability = exp(scores[s] - base);
    sum += probability;
    scores[s] = probability * dropout_factor<C>(p, position, s0 + s);
  }
  sum += __shfl_xor_sync(~0u, sum, 1);
  sum += __shfl_xor_sync(~0u, sum, 2);
  __syncwarp();
  if (lane != 0) return;
  shared.largest[row] = top;
  shared.shrink[row] = exp(before - base);
  shared.total[row] = shared.total[row] * shared.shrink[row] + sum;
}

template <class T, class C = compute_t<T>>
__global__ void __launch_bounds__(kThreads)
    attention_general_kernel(const AttentionForward all,
                             const __grid_constant__ SequenceTable sequences) {
  const SequenceWork<T, AttentionForward> work(all, sequences, blockIdx.x);
  const AttentionForward& p = work.problem;
  const Place place(p, work.block, p.H, p.bounds.Tq);
  const int64_t b = place.b, h = place.h, t0 = place.tile, Tq = p.bounds.Tq, Tk = p.bounds.Tk;
  SharedTiles<C>& shared = shared_tiles<C>();
  if (threadIdx.x < kTile) {
    shared.largest[threadIdx.x] = -static_cast<C>(INFINITY);
    shared.total[threadIdx.x] = C(0);
  }
  __syncthreads();
  Square<C> output = {}, scores;
  const int64_t end = p.bounds.last_key(min(t0 + kTile, Tq) - 1);
  for (int64_t s = p.bounds.first_key(t0) / kTile * kTile; s < end; s += kTile) {
    score_product<T>(scores, Rows<T>(p.q, b, h, t0, Tq), Rows<T>(p.k, b, p.key_head(h), s, Tk),
                     p.D);
    __syncthreads();  // all are done with the tiles of the step before, also when D = 0
    for (int i = 0; i < kEach; ++i)
      for (int j = 0; j < kEach; ++j)
        shared.scores[thread_row(i) * kPitch + thread_column(j)] =
            score(scores[i][j], p, b, h, t0 + thread_row(i), s + thread_column(j));
    load<kTile>(shared.operand, Rows<T>(p.v, b, p.key_head(h), s, Tk), place.column, p.D);
    __syncthreads();
    soft_maximum<C>(p, b, h, t0, s);
    __syncthreads();
    for (int i = 0; i < kEach; ++i)
      for (int j = 0; j < kEach; ++j) output[i][j] *= shared.shrink[thread_row(i)];
    accumulate<false>(output);
  }
  for (int i = 0; i < kEach; ++i) {
    const C total = shared.total[thread_row(i)];
    for (int j = 0; j < kEach; ++j)
      output[i][j] = total == C(0) ? C(0) : output[i][j] / total;  // 0: sees no key; not NaN
  }
  store(output, Rows<T>(p.output, b, h, t0, Tq), place.column, p.D);
  const int64_t t = t0 + threadIdx.x;
  if (place.column == 0 && threadIdx.x < kTile && t < Tq) {
    const C top = shared.largest[threadIdx.x], total = shared.total[threadIdx.x];
    const C base = top == -static_cast<C>(INFINITY) ? C(0) : top;
    static_cast<C*>(p.lse)[p.statistic(b, h, t)] =
        total == C(0) ? -static_cast<C>(INFINITY) : base + log(total);
  }
}

// ---------------------------------------------------------------- backward

// delta = sum over d of dO O, a warp for each query.
template <class T, class C = compute_t<T>>
__global__ void __launch_bounds__(kThreads) attention_general_deltas_kernel(AttentionBackward p) {
  const int64_t position = (blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x) / kWarp;
  if (position >= p.B * p.H * p.bounds.Tq) return;
  const int64_t t = position % p.bounds.Tq, bh = position / p.bounds.Tq, h = bh % p.H, b = bh / p.H;
  const T *g = p.g.rows<T>(b, h, t), *output = p.output.rows<T>(b, h, t);
  C sum = C(0);
  for (int64_t d = threadIdx.x % kWarp; d < p.D; d += kWarp)
    sum += static_cast<C>(g[d * p.g.column]) * static_cast<C>(output[d * p.output.column]);
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) static_cast<C*>(p.delta)[position] = sum;
}

// P after dropout and dS of a tile of queries and keys, in the registers of their threads.
template <class T, class C>
__device__ void score_gradients(Square<C>& dropped, Square<C>& ds, const AttentionBackward& p,
                                int64_t b, int64_t h, int64_t t0, int64_t s0) {
  const int64_t hk = p.key_head(h), Tq = p.bounds.Tq, Tk = p.bounds.Tk;
  score_product<T>(dropped, Rows<T>(p.q, b, h, t0, Tq), Rows<T>(p.k, b, hk, s0, Tk), p.D);
  score_product<T>(ds, Rows<T>(p.g, b, h, t0, Tq), Rows<T>(p.v, b, hk, s0, Tk), p.D);
  for (int i = 0; i < kEach; ++i) {
    const int64_t t = t0 + thread_row(i), position = p.position(b, h, t),
                  statistic = p.statistic(b, h, t);
    const C lse = t < Tq ? static_cast<const C*>(p.lse)[statistic] : -static_cast<C>(INFINITY),
            delta = t < Tq ? static_cast<const C*>(p.delta)[statistic] : C(0);
    for (int j = 0; j < kEach; ++j) {
      const int64_t s = s0 + thread_column(j);
      const bool blind = lse == -static_cast<C>(INFINITY) || s >= Tk;
      const C probability = blind ? C(0) : exp(score(dropped[i][j], p, b, h, t, s) - lse);
      const C factor = dropout_factor<C>(p, position, s);
      dropped[i][j] = probability * factor;
      ds[i][j] = probability * (ds[i][j] * factor - delta) * static_cast<C>(p.scale);
    }
  }
}

// Shares a tile of scores and loads the other operand of the next product.
template <class T, class C>
__device__ void share(const Square<C>& scores, const Rows<T>& operand, int64_t column, int64_t D) {
  SharedTiles<C>& shared = shared_tiles<C>();
  __syncthreads();  // all are done with the product before
  for (int i = 0; i < kEach; ++i)
    for (int j = 0; j < kEach; ++j)
      shared.scores[thread_row(i) * kPitch + thread_column(j)] = scores[i][j];
  load<kTile>(shared.operand, operand, column, D);
  __syncthreads();
}

template <class T, class C = compute_t<T>>
__global__ void __launch_bounds__(kThreads)
    attention_general_query_kernel(const AttentionBackward all,
                                   const __grid_constant__ SequenceTable sequences) {
  const SequenceWork<T, AttentionBackward> work(all, sequences, blockIdx.x);
  const AttentionBackward& p = work.problem;
  const Place place(p, work.block, p.H, p.bounds.Tq);
  const int64_t b = place.b, h = place.h, t0 = place.tile, Tq = p.bounds.Tq;
  Square<C> dq = {}, dropped, ds;
  const int64_t end = p.bounds.last_key(min(t0 + kTile, Tq) - 1);
  for (int64_t s = p.bounds.first_key(t0) / kTile * kTile; s < end; s += kTile) {
    score_gradients<T>(dropped, ds, p, b, h, t0, s);
    share(ds, Rows<T>(p.k, b, p.key_head(h), s, p.bounds.Tk), place.column, p.D);
    accumulate<false>(dq);
  }
  store(dq, Rows<T>(p.dq, b, h, t0, Tq), place.column, p.D);
}

template <class T, class C = compute_t<T>>
__global__ void __launch_bounds__(kThreads)
    attention_general_key_kernel(const AttentionBackward all,
                                 const __grid_constant__ SequenceTable sequences) {
  const SequenceWork<T, AttentionBackward> work(all, sequences, blockIdx.x);
  const AttentionBackward& p = work.problem;
  const Place place(p, work.block, p.Hk, p.bounds.Tk);
  const int64_t b = place.b, hk = place.h, s0 = place.tile, Tq = p.bounds.Tq, Tk = p.bounds.Tk,
                group = p.H / p.Hk;
  Square<C> dk = {}, dv = {}, dropped, ds;
  const int64_t begin = p.bounds.first_query(s0) / kTile * kTile,
                end = p.bounds.last_query(min(s0 + kTile, Tk) - 1);
  for (int64_t h = hk * group; h < (hk + 1) * group; ++h)
    for (int64_t t = begin; t < end; t += kTile) {
      score_gradients<T>(dropped, ds, p, b, h, t, s0);
      share(dropped, Rows<T>(p.g, b, h, t, Tq), place.column, p.D);
      accumulate<true>(dv);
      share(ds, Rows<T>(p.q, b, h, t, Tq), place.column, p.D);
      accumulate<true>(dk);
    }
  store(dk, Rows<T>(p.dk, b, hk, s0, Tk), place.column, p.D);
  store(dv, Rows<T>(p.dv, b, hk, s0, Tk), place.column, p.D);
}

template <class T>
constexpr uint32_t kSharedBytes = sizeof(SharedTiles<compute_t<T>>);

}  // namespace

void general_attention_forward(const AttentionForward& problem, const PackedSequences* sequences,
                               DType dtype, cudaStream_t stream) {
  const auto blocks_of = [&](int64_t Tq, int64_t) { return Place::count(problem, problem.H, Tq); };
  visit_floating("scaled_dot_product_attention", dtype, [&]<class T>(TypeTag<T>) {
    for_each_table(problem.bounds, sequences, blocks_of,
                   [&](const SequenceTable& table, int64_t blocks) {
                     launch_attention(attention_general_kernel<T>, blocks, kThreads,
                                      kSharedBytes<T>, stream, problem, table);
                   });
  });
}

void general_attention_backward(const AttentionBackward& problem, const PackedSequences* sequences,
                                DType dtype, cudaStream_t stream) {
  const auto query_blocks = [&](int64_t Tq, int64_t) {
    return Place::count(problem, problem.H, Tq);
  };
  const auto key_blocks = [&](int64_t, int64_t Tk) {
    return Place::count(problem, problem.Hk, Tk);
  };
  visit_floating("scaled_dot_product_attention", dtype, [&]<class T>(TypeTag<T>) {
    const int64_t rows = problem.B * problem.H * problem.bounds.Tq, per_block = kThreads / kWarp;
    launch_attention(attention_general_deltas_kernel<T>, (rows + per_block - 1) / per_block,
                     kThreads, 0, stream, problem);
    const auto launch = [&](auto kernel) {
      return [&, kernel](const SequenceTable& table, int64_t blocks) {
        launch_attention(kernel, blocks, kThreads, kSharedBytes<T>, stream, problem, table);
      };
    };
    for_each_table(problem.bounds, sequences, query_blocks,
                   launch(attention_general_query_kernel<T>));
    for_each_table(problem.bounds, sequences, key_blocks, launch(attention_general_key_kernel<T>));
  });
}

}  // namespace tendril::ops::cuda
