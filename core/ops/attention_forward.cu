// Fused attention forward for 16-bit numbers on tensor cores. A block of four warps owns 128
// queries of one head and walks over their keys, 64 at a time; each warp keeps 32 rows of the
// output, the largest score and the sum of each in registers. Keys and values arrive two tiles
// deep.
//
//   S = Q K^T     m' = max(m, max S)    P = 2^(c (S - m'))    c = scale log2(e)
//   O = O 2^(c (m - m')) + P V          l = l 2^(c (m - m')) + sum P
//   output = O / l                      lse = (c m + log2 l) ln 2

#include <tendril/core/ops/attention_kernels.cuh>
#include <tendril/core/ops/attention_softmax.cuh>

namespace tendril::ops::cuda {
namespace {

constexpr int kRows = 128, kKeys = 64, kThreads = 128;
constexpr int kM = kRows / 16 / (kThreads / 32), kN = kKeys / 8;  // C tiles of a warp

template <int kD>
constexpr uint32_t shared_bytes() {
  return tile_bytes<kD>(kRows) + 4 * tile_bytes<kD>(kKeys);  // Q; K and V twice
}

// Zeroes what dropout drops; the factor 1 / (1 - p) is left to the end.
__device__ __forceinline__ void drop(float (&p)[kM][kN][4], const AttentionProblem& problem,
                                     int64_t b, int64_t h, int t, int s) {
  const bool aligned = problem.bounds.Tk % 4 == 0;
  const int g = static_cast<int>(threadIdx.x & 31) >> 2;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    const uint64_t row = static_cast<uint64_t>(problem.position(b, h, t + 16 * m + g)),
                   Tk = static_cast<uint64_t>(problem.bounds.Tk);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      uint32_t words[4];
      const uint64_t low = row * Tk + static_cast<uint64_t>(s + 8 * n);
      query_row_words(words, problem.key, aligned, low, low + 8 * Tk);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (words[i] < problem.drop_below) p[m][n][i] = 0.0f;
    }
  }
}

// kExtras: an explicit mask, dropout or packed sequences.
template <class T, int kD, bool kExtras>
__global__ void __launch_bounds__(kThreads, 2)
    attention_forward_kernel(const AttentionForward all,
                             const __grid_constant__ Sequences<kExtras> sequences) {
  const WorkOf<T, AttentionForward, Sequences<kExtras>> work(all, sequences, blockIdx.x);
  const AttentionForward& p = work.problem;
  unsigned char* shared = dynamic_shared();
  const uint32_t queries = shared_address(shared), stages = queries + tile_bytes<kD>(kRows);
  const int Tq = static_cast<int>(p.bounds.Tq), Tk = static_cast<int>(p.bounds.Tk),
            D = static_cast<int>(p.D);
  const int blocks = (Tq + kRows - 1) / kRows;
  const int64_t bh = work.block / blocks, b = bh / p.H, h = bh % p.H, hk = p.key_head(h);
  // The last queries see the most keys: they start first.
  const int t0 = (blocks - 1 - static_cast<int>(work.block % blocks)) * kRows;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 * kM;  // of the warp, in the block
  const auto [scale, c] = score_factors<kExtras>(p);

  const int begin = static_cast<int>(p.bounds.first_key(t0)) / kKeys * kKeys;
  const int end = static_cast<int>(p.bounds.last_key(min(t0 + kRows, Tq) - 1));
  const auto start_keys = [&](int s) {
    const uint32_t keys = stages + (s / kKeys & 1) * 2 * tile_bytes<kD>(kKeys);
    start_tile<kKeys, kD, kThreads>(keys, p.k.rows<T>(b, hk, s), p.k.row, Tk - s, D);
    start_tile<kKeys, kD, kThreads>(keys + tile_bytes<kD>(kKeys), p.v.rows<T>(b, hk, s), p.v.row,
                                    Tk - s, D);
  };
  start_tile<kRows, kD, kThreads>(queries, p.q.rows<T>(b, h, t0), p.q.row, Tq - t0, D);
  if (begin < end) start_keys(begin);
  commit_copies();

  RowState<kD, kM> state;
  LeftRows<kD, kM, kD <= 64> left(queries, row);
  for (int s = begin; s < end; s += kKeys) {
    wait_copies<0>();
    __syncthreads();  // the tile is there for all, and all have left the one before
    if (s == begin) left.keep();
    if (s + kKeys < end) start_keys(s + kKeys);
    commit_copies();
    if (p.bounds.sees_none(t0 + row, 16 * kM, s, kKeys)) continue;
    const uint32_t keys = stages + (s / kKeys & 1) * 2 * tile_bytes<kD>(kKeys);
    float scores[kM][kN][4];
    multiply_rows<T, kD, kM, kN>(scores, left, keys, 0);
    restrict_query_rows<kExtras, kM, kN>(scores, p, b, h, t0 + row, s, scale);
    soft_maximum<kD, kM, kN>(scores, state, c);
    if constexpr (kExtras)
      if (p.drops) drop(scores, p, b, h, t0 + row, s);
    accumulate_product<T, kD, kM, kN>(state.output, scores, keys + tile_bytes<kD>(kKeys), 0);
  }
  wait_copies<0>();
  __syncthreads();  // when there was no key: the queries have arrived before their tile is reused
  finish<T, RowTile<kD>, kD, kM>(state, p, b, h, t0, row, c, shared);
}

}  // namespace

void fast_attention_forward(const AttentionForward& problem, const PackedSequences* sequences,
                            DType dtype, cudaStream_t stream) {
  const auto blocks_of = [&](int64_t Tq, int64_t) {
    return (Tq + kRows - 1) / kRows * problem.B * problem.H;
  };
  visit_fast(problem, sequences, dtype, [&]<class T, int kD, bool kE>(FastTag<T, kD, kE>) {
    for_each_table(problem.bounds, sequences, blocks_of,
                   [&](const SequenceTable& table, int64_t blocks) {
                     launch_attention(attention_forward_kernel<T, kD, kE>, blocks, kThreads,
                                      shared_bytes<kD>(), stream, problem, parameter_of<kE>(table));
                   });
  });
}

}  // namespace tendril::ops::cuda
