// Fused attention backward for 16-bit numbers on tensor cores, the same bits on every run: one
// kernel owns queries and sums dQ over the keys, another owns keys and sums dK and dV over the
// queries of all heads of its group. Scores are computed in both; nothing is added in memory.
//
//   P = 2^(c S - lse log2(e))   dP = dO V^T (dropped like P)   dS = P (dP - delta)
//   dQ = scale dS K             dK = scale dS^T Q              dV = dropout(P)^T dO
//
// The second kernel computes S^T = K Q^T and dP^T = V dO^T: then P^T and dS^T are already where the
// last two products want their left operand.

#include <algorithm>

#include <tendril/core/ops/attention_gradients.cuh>
#include <tendril/core/ops/attention_kernels.cuh>

namespace tendril::ops::cuda {
namespace {

// ---------------------------------------------------------------- what both need of each query

constexpr int kDeltaThreads = 256, kDeltaLanes = 8;

// {lse log2(e), delta} of each query, delta = sum over d of dO O. A query that sees no key gets
// +inf, with which every probability is 0.
template <class T>
__global__ void __launch_bounds__(kDeltaThreads) attention_deltas_kernel(AttentionBackward p) {
  const int64_t position =
      (blockIdx.x * static_cast<int64_t>(kDeltaThreads) + threadIdx.x) / kDeltaLanes;
  const int lane = static_cast<int>(threadIdx.x) % kDeltaLanes;
  const bool valid = position < p.B * p.H * p.bounds.Tq;
  float sum = 0.0f;
  if (valid) {
    const int64_t t = position % p.bounds.Tq, bh = position / p.bounds.Tq, h = bh % p.H,
                  b = bh / p.H;
    const T *g = p.g.rows<T>(b, h, t), *output = p.output.rows<T>(b, h, t);
    for (int64_t d = lane * 8; d < p.D; d += kDeltaLanes * 8) {
      const auto left = load_vector(g + d), right = load_vector(output + d);
#pragma unroll
      for (int i = 0; i < 8; ++i)
        sum = fmaf(static_cast<float>(left.v[i]), static_cast<float>(right.v[i]), sum);
    }
  }
  sum = warp_reduce<kDeltaLanes>(sum, Plus());
  if (!valid || lane != 0) return;
  const float lse = static_cast<const float*>(p.lse)[position];
  static_cast<float2*>(p.delta)[position] = {lse == -INFINITY ? INFINITY : lse * kLog2E, sum};
}

// ---------------------------------------------------------------- dQ

constexpr int kQueryRows = 128, kQueryThreads = 128, kQueryM = 2;

template <int kD>
constexpr int kQueryKeys = kD <= 64 ? 64 : 32;  // of a step: what the registers hold

template <int kD>
constexpr uint32_t query_shared_bytes() {  // Q, dO; K and V twice
  return 2 * tile_bytes<kD>(kQueryRows) + 4 * tile_bytes<kD>(kQueryKeys<kD>);
}

template <class T, int kD, bool kExtras>
__global__ void __launch_bounds__(kQueryThreads, 2)
    attention_query_gradient_kernel(const AttentionBackward all,
                                    const __grid_constant__ Sequences<kExtras> sequences) {
  constexpr int kKeys = kQueryKeys<kD>, kM = kQueryM, kN = kKeys / 8;
  const WorkOf<T, AttentionBackward, Sequences<kExtras>> work(all, sequences, blockIdx.x);
  const AttentionBackward& p = work.problem;
  unsigned char* shared = dynamic_shared();
  const uint32_t queries = shared_address(shared), upstream = queries + tile_bytes<kD>(kQueryRows),
                 stages = upstream + tile_bytes<kD>(kQueryRows);
  const int Tq = static_cast<int>(p.bounds.Tq), Tk = static_cast<int>(p.bounds.Tk),
            D = static_cast<int>(p.D);
  const int blocks = (Tq + kQueryRows - 1) / kQueryRows;
  const int64_t bh = work.block / blocks, b = bh / p.H, h = bh % p.H, hk = p.key_head(h);
  // The last queries see the most keys: they start first.
  const int t0 = (blocks - 1 - static_cast<int>(work.block % blocks)) * kQueryRows;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 * kM;  // of the warp, in the block
  const auto [scale, c] = score_factors<kExtras>(p);

  const int begin = static_cast<int>(p.bounds.first_key(t0)) / kKeys * kKeys;
  const int end = static_cast<int>(p.bounds.last_key(min(t0 + kQueryRows, Tq) - 1));
  const auto start_keys = [&](int s) {
    const uint32_t keys = stages + (s / kKeys & 1) * 2 * tile_bytes<kD>(kKeys);
    start_tile<kKeys, kD, kQueryThreads>(keys, p.k.rows<T>(b, hk, s), p.k.row, Tk - s, D);
    start_tile<kKeys, kD, kQueryThreads>(keys + tile_bytes<kD>(kKeys), p.v.rows<T>(b, hk, s),
                                         p.v.row, Tk - s, D);
  };
  start_tile<kQueryRows, kD, kQueryThreads>(queries, p.q.rows<T>(b, h, t0), p.q.row, Tq - t0, D);
  start_tile<kQueryRows, kD, kQueryThreads>(upstream, p.g.rows<T>(b, h, t0), p.g.row, Tq - t0, D);
  if (begin < end) start_keys(begin);
  commit_copies();

  float2 rows[kM][2];
  load_query_rows(rows, p, b, h, t0 + row);
  float dq[kM][kD / 8][4] = {};
  const LeftRows<kD, kM, false> left(queries, row), gradients(upstream, row);
  for (int s = begin; s < end; s += kKeys) {
    wait_copies<0>();
    __syncthreads();  // the tile is there for all, and all have left the one before
    if (s + kKeys < end) start_keys(s + kKeys);
    commit_copies();
    if (p.bounds.sees_none(t0 + row, 16 * kM, s, kKeys)) continue;
    const uint32_t keys = stages + (s / kKeys & 1) * 2 * tile_bytes<kD>(kKeys);
    float scores[kM][kN][4], dp[kM][kN][4];
    multiply_rows<T, kD, kM, kN>(scores, left, keys, 0);
    multiply_rows<T, kD, kM, kN>(dp, gradients, keys + tile_bytes<kD>(kKeys), 0);
    restrict_query_rows<kExtras, kM, kN>(scores, p, b, h, t0 + row, s, scale);
    query_score_gradients<kExtras, kM, kN>(scores, dp, rows, p, b, h, t0 + row, s, c);
    accumulate_product<T, kD, kM, kN>(dq, scores, keys, 0);
  }
  wait_copies<0>();
  __syncthreads();  // when there was no key: the queries have arrived before their tile is reused
  const auto factor = [&](int, int) { return static_cast<float>(p.scale); };
  store_rows<T, kD, kM>(dq, factor, shared, row, p.dq.rows<T>(b, h, t0), p.dq.row, Tq - t0, D);
}

// ---------------------------------------------------------------- dK and dV

constexpr int kKeyRows = 128, kKeyQueries = 64;

// A warp holds dK and dV of 32 keys, of 16 where rows are long; scores of as many queries at a time
// as fit beside them.
template <int kD>
struct KeyTile {
  static constexpr int kM = kD <= 64 ? 2 : 1, kN = kD <= 64 ? 4 : 8;
  static constexpr int kThreads = kKeyRows / 16 / kM * 32, kBlocks = kD <= 64 ? 2 : 1;
  static constexpr uint32_t kStage = 2 * tile_bytes<kD>(kKeyQueries) + kKeyQueries * 8;
  static constexpr uint32_t kShared = 2 * tile_bytes<kD>(kKeyRows) + 2 * kStage;
};

// One warp's keys against kN tiles of queries from row `first` of a stage on.
template <class T, int kD, bool kExtras, class Left, int kM = KeyTile<kD>::kM>
__device__ __forceinline__ void key_step(float (&dk)[kM][kD / 8][4], float (&dv)[kM][kD / 8][4],
                                         const Left& keys, const LeftRows<kD, kM, false>& values,
                                         const AttentionBackward& p, int64_t b, int64_t h, int key,
                                         int t, uint32_t stage, const float2* rows, int first) {
  constexpr int kN = KeyTile<kD>::kN;
  const auto [scale, c] = score_factors<kExtras>(p);
  const uint32_t queries = stage, upstream = stage + tile_bytes<kD>(kKeyQueries);
  KeyScores<kExtras, kM, kN> scores;
  multiply_rows<T, kD, kM, kN>(scores.s, keys, queries, first);
  multiply_rows<T, kD, kM, kN>(scores.dp, values, upstream, first);
  restrict_key_rows<kExtras, kM, kN>(scores.s, p, b, h, key, t, scale);
  scores.probabilities(rows, c);
  if constexpr (kExtras)
    if (p.drops) {
      float dropped[kM][kN][4];
      memcpy(dropped, scores.s, sizeof dropped);
      scores.draw(p, b, h, key, t);
      scores.drop(dropped, 1.0f);  // the factor 1 / (1 - p) of dV is left to the end
      scores.drop(scores.dp, static_cast<float>(p.kept));
      accumulate_product<T, kD, kM, kN>(dv, dropped, upstream, first);
    } else {
      accumulate_product<T, kD, kM, kN>(dv, scores.s, upstream, first);
    }
  else
    accumulate_product<T, kD, kM, kN>(dv, scores.s, upstream, first);
  scores.gradients(rows);
  accumulate_product<T, kD, kM, kN>(dk, scores.dp, queries, first);
}

template <class T, int kD, bool kExtras>
__global__ void __launch_bounds__(KeyTile<kD>::kThreads, KeyTile<kD>::kBlocks)
    attention_key_gradient_kernel(const AttentionBackward all,
                                  const __grid_constant__ Sequences<kExtras> sequences) {
  using Tile = KeyTile<kD>;
  const WorkOf<T, AttentionBackward, Sequences<kExtras>> work(all, sequences, blockIdx.x);
  const AttentionBackward& p = work.problem;
  constexpr int kM = Tile::kM, kN = Tile::kN, kThreads = Tile::kThreads;
  unsigned char* shared = dynamic_shared();
  const uint32_t keys = shared_address(shared), values = keys + tile_bytes<kD>(kKeyRows),
                 stages = values + tile_bytes<kD>(kKeyRows);
  const int Tq = static_cast<int>(p.bounds.Tq), Tk = static_cast<int>(p.bounds.Tk),
            D = static_cast<int>(p.D);
  const int blocks = (Tk + kKeyRows - 1) / kKeyRows;
  const int64_t bh = work.block / blocks, b = bh / p.Hk, hk = bh % p.Hk;
  const int s0 = static_cast<int>(work.block % blocks) * kKeyRows;  // the first keys are seen most
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 * kM;     // of the warp, in the block
  const int group = static_cast<int>(p.H / p.Hk);

  // Steps over the queries of all heads of the group, head by head.
  const int begin = static_cast<int>(p.bounds.first_query(s0)) / kKeyQueries * kKeyQueries;
  const int end = static_cast<int>(p.bounds.last_query(min(s0 + kKeyRows, Tk) - 1));
  const int per_head = end > begin ? (end - begin + kKeyQueries - 1) / kKeyQueries : 0;
  const int steps = group * per_head;
  const auto stage_of = [&](int step) { return (step & 1) * Tile::kStage; };
  const auto start_queries = [&](int step) {
    const int64_t h = hk * group + step / per_head;
    const int t = begin + step % per_head * kKeyQueries;
    const uint32_t stage = stages + stage_of(step);
    start_tile<kKeyQueries, kD, kThreads>(stage, p.q.rows<T>(b, h, t), p.q.row, Tq - t, D);
    start_tile<kKeyQueries, kD, kThreads>(stage + tile_bytes<kD>(kKeyQueries), p.g.rows<T>(b, h, t),
                                          p.g.row, Tq - t, D);
    start_query_rows<kKeyQueries, kThreads>(stage + 2 * tile_bytes<kD>(kKeyQueries), p, b, h, t,
                                            static_cast<int>(threadIdx.x));
  };
  start_tile<kKeyRows, kD, kThreads>(keys, p.k.rows<T>(b, hk, s0), p.k.row, Tk - s0, D);
  start_tile<kKeyRows, kD, kThreads>(values, p.v.rows<T>(b, hk, s0), p.v.row, Tk - s0, D);
  if (steps > 0) start_queries(0);
  commit_copies();

  float dk[kM][kD / 8][4] = {}, dv[kM][kD / 8][4] = {};
  LeftRows<kD, kM, kD <= 64> left(keys, row);
  const LeftRows<kD, kM, false> left_values(values, row);
  for (int step = 0; step < steps; ++step) {
    wait_copies<0>();
    __syncthreads();  // the tile is there for all, and all have left the one before
    if (step == 0) left.keep();
    if (step + 1 < steps) start_queries(step + 1);
    commit_copies();
    const int64_t h = hk * group + step / per_head;
    const int t = begin + step % per_head * kKeyQueries;
    const auto* rows = reinterpret_cast<const float2*>(
        shared + 2 * tile_bytes<kD>(kKeyRows) + stage_of(step) + 2 * tile_bytes<kD>(kKeyQueries));
#pragma unroll 1
    for (int first = 0; first < kKeyQueries; first += 8 * kN)
      if (!p.bounds.sees_none(t + first, 8 * kN, s0 + row, 16 * kM))
        key_step<T, kD, kExtras>(dk, dv, left, left_values, p, b, h, s0 + row, t + first,
                                 stages + stage_of(step), rows + first, first);
  }
  wait_copies<0>();
  __syncthreads();  // when nobody sees the keys: they have arrived before their tile is reused
  const auto scale = [&](int, int) { return static_cast<float>(p.scale); };
  const auto kept = [&](int, int) { return static_cast<float>(p.kept); };
  store_rows<T, kD, kM>(dk, scale, shared, row, p.dk.rows<T>(b, hk, s0), p.dk.row, Tk - s0, D);
  store_rows<T, kD, kM>(dv, kept, shared, row, p.dv.rows<T>(b, hk, s0), p.dv.row, Tk - s0, D);
}

}  // namespace

void fast_attention_deltas(const AttentionBackward& problem, DType dtype, cudaStream_t stream) {
  const int64_t rows = problem.B * problem.H * problem.bounds.Tq,
                per_block = kDeltaThreads / kDeltaLanes;
  launch_attention(
      dtype == bf16 ? attention_deltas_kernel<bfloat16> : attention_deltas_kernel<float16>,
      (rows + per_block - 1) / per_block, kDeltaThreads, 0, stream, problem);
}

int64_t fast_attention_backward_bytes(int64_t D) {
  const auto most = [](uint32_t queries, uint32_t keys) { return std::max(queries, keys); };
  return D <= 32   ? most(query_shared_bytes<32>(), KeyTile<32>::kShared)
         : D <= 64 ? most(query_shared_bytes<64>(), KeyTile<64>::kShared)
         : D <= 96 ? most(query_shared_bytes<96>(), KeyTile<96>::kShared)
                   : most(query_shared_bytes<128>(), KeyTile<128>::kShared);
}

void fast_attention_backward(const AttentionBackward& problem, const PackedSequences* sequences,
                             DType dtype, cudaStream_t stream) {
  const auto query_blocks = [&](int64_t Tq, int64_t) {
    return (Tq + kQueryRows - 1) / kQueryRows * problem.B * problem.H;
  };
  const auto key_blocks = [&](int64_t, int64_t Tk) {
    return (Tk + kKeyRows - 1) / kKeyRows * problem.B * problem.Hk;
  };
  visit_fast(problem, sequences, dtype, [&]<class T, int kD, bool kE>(FastTag<T, kD, kE>) {
    for_each_table(
        problem.bounds, sequences, query_blocks, [&](const SequenceTable& table, int64_t blocks) {
          launch_attention(attention_query_gradient_kernel<T, kD, kE>, blocks, kQueryThreads,
                           query_shared_bytes<kD>(), stream, problem, parameter_of<kE>(table));
        });
    for_each_table(
        problem.bounds, sequences, key_blocks, [&](const SequenceTable& table, int64_t blocks) {
          launch_attention(attention_key_gradient_kernel<T, kD, kE>, blocks, KeyTile<kD>::kThreads,
                           KeyTile<kD>::kShared, stream, problem, parameter_of<kE>(table));
        });
  });
}

}  // namespace tendril::ops::cuda
