// Attention's backward pass as in attention_backward.cu, with Hopper's warpgroup products: a
// warpgroup owns 64 queries (dQ) or 64 keys (dK, dV) and walks over 64 of the others at a time.
// Within a step, products run beside the arithmetic that does not need them.

#include <tendril/core/ops/attention_kernels.cuh>

#include <tendril/core/ops/attention_gradients.cuh>
#include <tendril/core/ops/attention_group.cuh>

namespace tendril::ops::cuda {
namespace {

// ---------------------------------------------------------------- dQ

// Short heads leave registers for three blocks of a group on a multiprocessor: one works while the
// others wait.
template <int kD>
struct QueryBlock {
  static constexpr int kGroups = kD == 64 ? 1 : 2, kBlocks = kD == 64 ? 3 : 1;
  static constexpr int kRows = kGroups * kGroupRows, kThreads = kGroups * kGroupThreads;
  static constexpr uint32_t kStage = 2 * tile_bytes<kD>(kStep);                // K, V
  static constexpr uint32_t kShared = 2 * tile_bytes<kD>(kRows) + 2 * kStage;  // Q, dO
};

template <class T, int kD, class Block = QueryBlock<kD>>
__global__ void __launch_bounds__(Block::kThreads, Block::kBlocks)
    attention_query_gradient_group_kernel(const AttentionBackward p) {
  constexpr int kRows = Block::kRows, kThreads = Block::kThreads;
  using LeftTile = BlockTile<kRows>;
  using RightTile = BlockTile<kStep>;
  unsigned char* shared = dynamic_shared();
  const uint32_t queries = shared_address(shared), upstream = queries + tile_bytes<kD>(kRows),
                 stages = upstream + tile_bytes<kD>(kRows);
  const int Tq = static_cast<int>(p.bounds.Tq), Tk = static_cast<int>(p.bounds.Tk),
            D = static_cast<int>(p.D);
  const int blocks = (Tq + kRows - 1) / kRows;
  const int64_t bh = blockIdx.x / blocks, b = bh / p.H, h = bh % p.H, hk = p.key_head(h);
  // The last queries see the most keys: they start first.
  const int t0 = (blocks - 1 - static_cast<int>(blockIdx.x % blocks)) * kRows;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16;  // of the warp, in the block
  const int group_row = row / kGroupRows * kGroupRows;
  const float power = static_cast<float>(p.scale) * kLog2E;

  const int begin = static_cast<int>(p.bounds.first_key(t0)) / kStep * kStep;
  const int end = static_cast<int>(p.bounds.last_key(min(t0 + kRows, Tq) - 1));
  const auto start_keys = [&](int s, int stage) {
    const uint32_t keys = stages + stage * Block::kStage;
    start_tile<kStep, kD, kThreads, RightTile>(keys, p.k.rows<T>(b, hk, s), p.k.row, Tk - s, D);
    start_tile<kStep, kD, kThreads, RightTile>(keys + tile_bytes<kD>(kStep), p.v.rows<T>(b, hk, s),
                                               p.v.row, Tk - s, D);
  };
  start_tile<kRows, kD, kThreads, LeftTile>(queries, p.q.rows<T>(b, h, t0), p.q.row, Tq - t0, D);
  start_tile<kRows, kD, kThreads, LeftTile>(upstream, p.g.rows<T>(b, h, t0), p.g.row, Tq - t0, D);
  if (begin < end) start_keys(begin, 0);
  commit_copies();

  float2 rows[1][2];
  load_query_rows(rows, p, b, h, t0 + row);
  float dq[1][kD / 8][4] = {};
  // Made once: the first product of a step overwrites what it finds.
  float scores[1][8][4] = {}, dp[1][8][4] = {};
  for (int s = begin, stage = 0; s < end; s += kStep, stage ^= 1) {
    wait_copies<0>();
    publish_shared();
    __syncthreads();  // the tile is there for all, and all have left the one before
    if (s + kStep < end) start_keys(s + kStep, stage ^ 1);
    commit_copies();
    if (p.bounds.sees_none(t0 + group_row, kGroupRows, s, kStep)) continue;
    const uint32_t keys = stages + stage * Block::kStage;
    fence_products();
    start_rows_product<T, kD, kRows>(scores[0], queries, group_row, keys);
    start_rows_product<T, kD, kRows>(dp[0], upstream, group_row, keys + tile_bytes<kD>(kStep));
    commit_products();
    wait_products<0>();
    hold(scores[0]);
    hold(dp[0]);
    restrict_query_rows<false, 1, 8>(scores, p, b, h, t0 + row, s, power);
    query_score_gradients<false, 1, 8>(scores, dp, rows, p, b, h, t0 + row, s, power);
    uint32_t gradients[4][4];
    pack_left<T>(gradients, scores[0]);
    fence_products();
    start_sum<T, kD>(dq[0], gradients, keys);
    commit_products();
    wait_products<0>();
    hold_sum<kD>(dq[0]);
  }
  wait_copies<0>();
  __syncthreads();  // the queries have arrived, and nobody reads them any more
  const auto factor = [&](int, int) { return static_cast<float>(p.scale); };
  store_rows<T, kD, 1, LeftTile>(dq, factor, shared, row, p.dq.rows<T>(b, h, t0), p.dq.row, Tq - t0,
                                 D);
}

// ---------------------------------------------------------------- dK and dV

// dK, dV and two tiles of scores take all registers of two groups; for short heads these are two
// blocks.
template <int kD>
struct KeyBlock {
  static constexpr int kGroups = kD == 64 ? 1 : 2, kBlocks = kD == 64 ? 2 : 1;
  static constexpr int kRows = kGroups * kGroupRows, kThreads = kGroups * kGroupThreads;
  static constexpr uint32_t kStage = 2 * tile_bytes<kD>(kStep);  // Q, dO
  static constexpr uint32_t kRowBytes = kStep * 8;               // {lse, delta} of the queries
  static constexpr uint32_t kRowStart = 2 * tile_bytes<kD>(kRows) + 2 * kStage;
  static constexpr uint32_t kShared = kRowStart + 2 * kRowBytes;
};

template <class T, int kD, class Block = KeyBlock<kD>>
__global__ void __launch_bounds__(Block::kThreads, Block::kBlocks)
    attention_key_gradient_group_kernel(const AttentionBackward p) {
  constexpr int kRows = Block::kRows, kThreads = Block::kThreads;
  using LeftTile = BlockTile<kRows>;
  using RightTile = BlockTile<kStep>;
  unsigned char* shared = dynamic_shared();
  const uint32_t keys = shared_address(shared), values = keys + tile_bytes<kD>(kRows),
                 stages = values + tile_bytes<kD>(kRows);
  const int Tq = static_cast<int>(p.bounds.Tq), Tk = static_cast<int>(p.bounds.Tk),
            D = static_cast<int>(p.D);
  const int blocks = (Tk + kRows - 1) / kRows;
  const int64_t bh = blockIdx.x / blocks, b = bh / p.Hk, hk = bh % p.Hk;
  const int s0 = static_cast<int>(blockIdx.x % blocks) * kRows;  // the first keys are seen most
  const int row = static_cast<int>(threadIdx.x) / 32 * 16;       // of the warp, in the block
  const int group_row = row / kGroupRows * kGroupRows;
  const float power = static_cast<float>(p.scale) * kLog2E;

  // Steps over the queries of all heads of the group, head by head.
  const int heads = static_cast<int>(p.H / p.Hk);
  const int begin = static_cast<int>(p.bounds.first_query(s0)) / kStep * kStep;
  const int end = static_cast<int>(p.bounds.last_query(min(s0 + kRows, Tk) - 1));
  const int per_head = end > begin ? (end - begin + kStep - 1) / kStep : 0;
  const int steps = heads * per_head;
  const auto start_queries = [&](int step, int stage) {
    const int64_t h = hk * heads + step / per_head;
    const int t = begin + step % per_head * kStep;
    const uint32_t place = stages + stage * Block::kStage;
    start_tile<kStep, kD, kThreads, RightTile>(place, p.q.rows<T>(b, h, t), p.q.row, Tq - t, D);
    start_tile<kStep, kD, kThreads, RightTile>(place + tile_bytes<kD>(kStep), p.g.rows<T>(b, h, t),
                                               p.g.row, Tq - t, D);
    start_query_rows<kStep>(keys + Block::kRowStart + stage * Block::kRowBytes, p, b, h, t);
  };
  start_tile<kRows, kD, kThreads, LeftTile>(keys, p.k.rows<T>(b, hk, s0), p.k.row, Tk - s0, D);
  start_tile<kRows, kD, kThreads, LeftTile>(values, p.v.rows<T>(b, hk, s0), p.v.row, Tk - s0, D);
  if (steps > 0) start_queries(0, 0);
  commit_copies();

  float dk[1][kD / 8][4] = {}, dv[1][kD / 8][4] = {};
  KeyScores<false, 1, 8> scores;  // made once, as above
  for (int step = 0, stage = 0; step < steps; ++step, stage ^= 1) {
    wait_copies<0>();
    publish_shared();
    __syncthreads();  // the tile is there for all, and all have left the one before
    if (step + 1 < steps) start_queries(step + 1, stage ^ 1);
    commit_copies();
    const int64_t h = hk * heads + step / per_head;
    const int t = begin + step % per_head * kStep;
    if (p.bounds.sees_none(t, kStep, s0 + group_row, kGroupRows)) continue;
    const uint32_t queries = stages + stage * Block::kStage,
                   upstream = queries + tile_bytes<kD>(kStep);
    const auto* rows =
        reinterpret_cast<const float2*>(shared + Block::kRowStart + stage * Block::kRowBytes);
    uint32_t left[4][4], left_gradients[4][4];
    fence_products();
    start_rows_product<T, kD, kRows>(scores.s[0], keys, group_row, queries);
    commit_products();
    start_rows_product<T, kD, kRows>(scores.dp[0], values, group_row, upstream);
    commit_products();
    wait_products<1>();  // for the scores
    hold(scores.s[0]);
    restrict_key_rows<false, 1, 8>(scores.s, p, b, h, s0 + row, t, power);
    scores.probabilities(rows, power);
    pack_left<T>(left, scores.s[0]);
    fence_products();
    start_sum<T, kD>(dv[0], left, upstream);
    commit_products();
    wait_products<1>();  // for dP
    hold(scores.dp[0]);
    scores.gradients(rows);
    pack_left<T>(left_gradients, scores.s[0]);
    fence_products();
    start_sum<T, kD>(dk[0], left_gradients, queries);
    commit_products();
    wait_products<0>();
    hold_sum<kD>(dk[0]);
    hold_sum<kD>(dv[0]);
  }
  wait_copies<0>();
  __syncthreads();  // the keys have arrived, and nobody reads them any more
  const auto scale = [&](int, int) { return static_cast<float>(p.scale); };
  const auto kept = [&](int, int) { return 1.0f; };
  store_rows<T, kD, 1, LeftTile>(dk, scale, shared, row, p.dk.rows<T>(b, hk, s0), p.dk.row, Tk - s0,
                                 D);
  store_rows<T, kD, 1, LeftTile>(dv, kept, shared, row, p.dv.rows<T>(b, hk, s0), p.dv.row, Tk - s0,
                                 D);
}

}  // namespace

void hopper_attention_backward(const AttentionBackward& problem, DType dtype, cudaStream_t stream) {
  visit_hopper(problem, dtype, [&]<class T, int kD, bool kExtras>(FastTag<T, kD, kExtras>) {
    using Queries = QueryBlock<kD>;
    using Keys = KeyBlock<kD>;
    launch_attention(
        attention_query_gradient_group_kernel<T, kD>,
        (problem.bounds.Tq + Queries::kRows - 1) / Queries::kRows * problem.B * problem.H,
        Queries::kThreads, Queries::kShared, stream, problem);
    launch_attention(attention_key_gradient_group_kernel<T, kD>,
                     (problem.bounds.Tk + Keys::kRows - 1) / Keys::kRows * problem.B * problem.Hk,
                     Keys::kThreads, Keys::kShared, stream, problem);
  });
}

}  // namespace tendril::ops::cuda
