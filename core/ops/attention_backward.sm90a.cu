// Attention's backward pass as in attention_backward.cu, with Hopper's warpgroup products and bulk
// copies: a group owns 64 queries (dQ) or 64 keys (dK, dV) and walks over the others. While the
// tensor cores add one tile to the gradients, the group computes the scores' gradients of the next.

#include <tendril/core/ops/attention_kernels.cuh>

#include <tendril/core/ops/attention_gradients.cuh>
#include <tendril/core/ops/attention_group.cuh>

namespace tendril::ops::cuda {
namespace {

struct BackwardMaps {
  CUtensorMap q, g, k, v;
};

// A block: two resident tiles, and in each place two tiles of the other side and kRowBytes.
template <int kD, int kGroupCount, int kColumnCount, int kStageCount, int kBlockCount,
          bool kWithRows>
struct BackwardBlock {
  static constexpr int kGroups = kGroupCount, kColumns = kColumnCount, kStages = kStageCount,
                       kBlocks = kBlockCount;
  using Registers = GroupRegisters<kGroups, kBlocks>;
  static constexpr int kRows = kGroups * kGroupRows, kThreads = Registers::kThreads;
  static constexpr uint32_t kResident = tile_bytes<kD>(kRows), kTile = tile_bytes<kD>(kColumns);
  static constexpr uint32_t kRowBytes = kWithRows ? kColumns * 8 : 0;  // {lse, delta}
  static constexpr uint32_t kRowStart = 2 * kResident + 2 * kStages * kTile;
  static constexpr uint32_t kBarriers = kRowStart + kStages * kRowBytes;
  static constexpr uint32_t kShared = kBarriers + 8 + Pipeline<kStages>::kBytes;
};

template <class Block>
struct BackwardMemory {
  uint32_t first_resident = shared_address(dynamic_shared());
  uint32_t second_resident = first_resident + Block::kResident;
  CopyBarrier resident_full{first_resident + Block::kBarriers};
  Pipeline<Block::kStages> places{first_resident + Block::kBarriers + 8};

  __device__ __forceinline__ uint32_t first_tile(int step) const {
    return first_resident + 2 * Block::kResident + step % Block::kStages * 2 * Block::kTile;
  }
  __device__ __forceinline__ uint32_t second_tile(int step) const {
    return first_tile(step) + Block::kTile;
  }
  __device__ __forceinline__ uint32_t rows_offset(int step) const {
    return Block::kRowStart + step % Block::kStages * Block::kRowBytes;
  }
  __device__ __forceinline__ const float2* rows(int step) const {
    return reinterpret_cast<const float2*>(dynamic_shared() + rows_offset(step));
  }
  __device__ __forceinline__ void make_barriers(int copies) const {
    if (threadIdx.x == 0) {
      resident_full.make(1);
      places.make(copies, Block::kGroups * kGroupWarps);
      publish_shared();
    }
    __syncthreads();
  }
};

// Runs body(n, sum_of_the_step_before) so that a step's scores are made beside the sums of the step
// before. start_scores(n) and start_sums(n) start products; gradients() turns scores, which are
// there, into gradients; pack() makes them the left operand of start_sums.
template <class Memory, class Scores, class Gradients, class Pack, class Sums, class Hold>
__device__ __forceinline__ void walk(const Memory& memory, const GroupSteps& mine,
                                     const Scores& start_scores, const Gradients& gradients,
                                     const Pack& pack, const Sums& start_sums,
                                     const Hold& hold_sums) {
  if (mine.first == mine.last) return;
  memory.places.await_full(mine.first);
  fence_products();
  start_scores(mine.first);
  commit_products();
  wait_products<0>();
  gradients(mine.first);
  pack();
  for (int n = mine.first + 1; n < mine.last; ++n) {
    memory.places.await_full(n);
    fence_products();
    start_scores(n);
    commit_products();
    start_sums(n - 1);
    commit_products();
    wait_products<1>();
    gradients(n);
    wait_products<0>();
    hold_sums();
    memory.places.leave(n - 1);
    pack();
  }
  fence_products();
  start_sums(mine.last - 1);
  commit_products();
  wait_products<0>();
  hold_sums();
  memory.places.leave(mine.last - 1);
}

// ---------------------------------------------------------------- dQ

// What the copying thread of a block does.
template <int kD, class Block>
__device__ __forceinline__ void bring_keys(const BackwardMemory<Block>& memory,
                                           const AttentionBackward& p, const BackwardMaps& maps,
                                           int64_t b, int64_t h, int t0, int begin, int steps) {
  constexpr int kRows = Block::kRows, kKeys = Block::kColumns;
  memory.resident_full.arrive_and_expect(2 * Block::kResident);
  start_tile_copy<kD, kRows>(memory.first_resident, maps.q, memory.resident_full, t0, h, b);
  start_tile_copy<kD, kRows>(memory.second_resident, maps.g, memory.resident_full, t0, h, b);
  const int64_t hk = p.key_head(h);
  for (int n = 0; n < steps; ++n) {
    const int s = begin + n * kKeys;
    const CopyBarrier full = memory.places.full(n);
    memory.places.await_empty(n);
    full.arrive_and_expect(2 * Block::kTile);
    start_tile_copy<kD, kKeys>(memory.first_tile(n), maps.k, full, s, hk, b);
    start_tile_copy<kD, kKeys>(memory.second_tile(n), maps.v, full, s, hk, b);
  }
}

template <class T, int kD, class Block>
__global__ void __launch_bounds__(Block::kThreads, Block::kBlocks)
    attention_query_gradient_group_kernel(const __grid_constant__ AttentionBackward p,
                                          const __grid_constant__ BackwardMaps maps) {
  constexpr int kRows = Block::kRows, kKeys = Block::kColumns;
  const BackwardMemory<Block> memory;
  const int Tq = static_cast<int>(p.bounds.Tq);
  const int blocks = (Tq + kRows - 1) / kRows;
  const int64_t bh = blockIdx.x / blocks, b = bh / p.H, h = bh % p.H;
  // The last queries see the most keys: they start first.
  const int t0 = (blocks - 1 - static_cast<int>(blockIdx.x % blocks)) * kRows;
  const int begin = static_cast<int>(p.bounds.first_key(t0)) / kKeys * kKeys;
  const int end = static_cast<int>(p.bounds.last_key(min(t0 + kRows, Tq) - 1));
  const int steps = end > begin ? (end - begin + kKeys - 1) / kKeys : 0;
  memory.make_barriers(1);

  const int group = group_index();
  if (group == Block::kGroups) {  // the one that copies
    keep_registers<Block::Registers::kCopying>();
    if (threadIdx.x % kGroupThreads != 0) return;
    bring_keys<kD>(memory, p, maps, b, h, t0, begin, steps);
    return;
  }

  take_registers<Block::Registers::kWorking>();
  const int row = static_cast<int>(threadIdx.x) / 32 * 16;  // of the warp, in the block
  const int group_row = group * kGroupRows;
  const float power = static_cast<float>(p.scale) * kLog2E;
  const VisibleColumns<true> visible(p.bounds, t0 + group_row);
  const GroupSteps mine(visible, p.bounds, begin, steps, kKeys);
  float2 rows[1][2];
  load_query_rows(rows, p, b, h, t0 + row);
  float dq[1][kD / 8][4] = {};
  float scores[1][kKeys / 8][4] = {}, dp[1][kKeys / 8][4] = {};  // overwritten by every step
  uint32_t left[kKeys / 16][4];

  for (int n = 0; n < mine.first; ++n) memory.places.skip(n);
  memory.resident_full.wait(0);
  walk(
      memory, mine,
      [&](int n) {
        start_rows_product<T, kD, kRows, kKeys>(scores[0], memory.first_resident, group_row,
                                                memory.first_tile(n));
        start_rows_product<T, kD, kRows, kKeys>(dp[0], memory.second_resident, group_row,
                                                memory.second_tile(n));
      },
      [&](int n) {
        hold(scores[0]);
        hold(dp[0]);
        visible.restrict(scores[0], p.bounds, begin + n * kKeys);
        query_score_gradients<false, 1, kKeys / 8>(scores, dp, rows, p, b, h, t0 + row, 0, power);
      },
      [&] { pack_left<T>(left, scores[0]); },
      [&](int n) { start_sum<T, kD, kKeys>(dq[0], left, memory.first_tile(n)); },
      [&] {
        hold(dq[0]);
        hold_left(left);
      });
  for (int n = mine.last; n < steps; ++n) memory.places.skip(n);
  synchronize_group(group);  // nobody reads the group's queries any more
  const auto factor = [&](int, int) { return static_cast<float>(p.scale); };
  store_rows<T, kD, 1, BlockTile<kRows>>(dq, factor, dynamic_shared(), row, p.dq.rows<T>(b, h, t0),
                                         p.dq.row, Tq - t0, static_cast<int>(p.D));
}

// ---------------------------------------------------------------- dK and dV

// What the copying warp of a block does: all lanes bring {lse, delta}, the first one the tiles.
template <int kD, class Block>
__device__ __forceinline__ void bring_queries(const BackwardMemory<Block>& memory,
                                              const AttentionBackward& p, const BackwardMaps& maps,
                                              int64_t b, int64_t hk, int s0, int begin,
                                              int per_head) {
  constexpr int kRows = Block::kRows, kQueries = Block::kColumns;
  const int lane = static_cast<int>(threadIdx.x & 31), heads = static_cast<int>(p.H / p.Hk);
  if (lane == 0) {
    memory.resident_full.arrive_and_expect(2 * Block::kResident);
    start_tile_copy<kD, kRows>(memory.first_resident, maps.k, memory.resident_full, s0, hk, b);
    start_tile_copy<kD, kRows>(memory.second_resident, maps.v, memory.resident_full, s0, hk, b);
  }
  for (int head = 0, n = 0; head < heads; ++head)
    for (int i = 0; i < per_head; ++i, ++n) {
      const int64_t h = hk * heads + head;
      const int t = begin + i * kQueries;
      const CopyBarrier full = memory.places.full(n);
      memory.places.await_empty(n);
      start_query_rows<kQueries, 32>(memory.first_resident + memory.rows_offset(n), p, b, h, t,
                                     lane);
      full.arrive_with_copies();
      if (lane != 0) continue;
      full.arrive_and_expect(2 * Block::kTile);
      start_tile_copy<kD, kQueries>(memory.first_tile(n), maps.q, full, t, h, b);
      start_tile_copy<kD, kQueries>(memory.second_tile(n), maps.g, full, t, h, b);
    }
}

template <class T, int kD, class Block>
__global__ void __launch_bounds__(Block::kThreads, Block::kBlocks)
    attention_key_gradient_group_kernel(const __grid_constant__ AttentionBackward p,
                                        const __grid_constant__ BackwardMaps maps) {
  constexpr int kRows = Block::kRows, kQueries = Block::kColumns;
  const BackwardMemory<Block> memory;
  const int Tk = static_cast<int>(p.bounds.Tk);
  const int blocks = (Tk + kRows - 1) / kRows;
  const int64_t bh = blockIdx.x / blocks, b = bh / p.Hk, hk = bh % p.Hk;
  const int s0 = static_cast<int>(blockIdx.x % blocks) * kRows;  // the first keys are seen most
  // The queries of all heads of the group of heads, head by head.
  const int heads = static_cast<int>(p.H / p.Hk);
  const int begin = static_cast<int>(p.bounds.first_query(s0)) / kQueries * kQueries;
  const int end = static_cast<int>(p.bounds.last_query(min(s0 + kRows, Tk) - 1));
  const int per_head = end > begin ? (end - begin + kQueries - 1) / kQueries : 0;
  memory.make_barriers(33);  // 32 lanes bring {lse, delta}

  const int group = group_index();
  if (group == Block::kGroups) {  // the one that copies
    keep_registers<Block::Registers::kCopying>();
    if (threadIdx.x % kGroupThreads >= 32) return;
    bring_queries<kD>(memory, p, maps, b, hk, s0, begin, per_head);
    return;
  }

  take_registers<Block::Registers::kWorking>();
  const int row = static_cast<int>(threadIdx.x) / 32 * 16;  // of the warp, in the block
  const int group_row = group * kGroupRows;
  const float power = static_cast<float>(p.scale) * kLog2E;
  const VisibleColumns<false> visible(p.bounds, s0 + group_row);
  const GroupSteps of_head(visible, p.bounds, begin, per_head, kQueries);
  float dk[1][kD / 8][4] = {}, dv[1][kD / 8][4] = {};
  KeyScores<false, 1, kQueries / 8> scores;  // overwritten by every step
  uint32_t left[kQueries / 16][4], left_gradients[kQueries / 16][4];

  memory.resident_full.wait(0);
  for (int head = 0; head < heads; ++head) {
    const int start = head * per_head;
    GroupSteps mine = of_head;
    mine.first += start, mine.last += start;
    for (int n = start; n < mine.first; ++n) memory.places.skip(n);
    walk(
        memory, mine,
        [&](int n) {
          start_rows_product<T, kD, kRows, kQueries>(scores.s[0], memory.first_resident, group_row,
                                                     memory.first_tile(n));
          start_rows_product<T, kD, kRows, kQueries>(scores.dp[0], memory.second_resident,
                                                     group_row, memory.second_tile(n));
        },
        [&](int n) {
          hold(scores.s[0]);
          hold(scores.dp[0]);
          visible.restrict(scores.s[0], p.bounds, begin + (n - start) * kQueries);
          const float2* rows = memory.rows(n);
          scores.probabilities(rows, power);
          scores.gradients(rows);
        },
        [&] {
          pack_left<T>(left, scores.s[0]);
          pack_left<T>(left_gradients, scores.dp[0]);
        },
        [&](int n) {
          start_sum<T, kD, kQueries>(dv[0], left, memory.second_tile(n));
          start_sum<T, kD, kQueries>(dk[0], left_gradients, memory.first_tile(n));
        },
        [&] {
          hold(dk[0]);
          hold(dv[0]);
          hold_left(left);
          hold_left(left_gradients);
        });
    for (int n = mine.last; n < start + per_head; ++n) memory.places.skip(n);
  }
  synchronize_group(group);  // nobody reads the group's keys any more
  const int D = static_cast<int>(p.D);
  const auto scale = [&](int, int) { return static_cast<float>(p.scale); };
  const auto kept = [&](int, int) { return 1.0f; };
  store_rows<T, kD, 1, BlockTile<kRows>>(dk, scale, dynamic_shared(), row, p.dk.rows<T>(b, hk, s0),
                                         p.dk.row, Tk - s0, D);
  store_rows<T, kD, 1, BlockTile<kRows>>(dv, kept, dynamic_shared(), row, p.dv.rows<T>(b, hk, s0),
                                         p.dv.row, Tk - s0, D);
}

BackwardMaps maps_of(const AttentionBackward& p, DType dtype, int query_rows, int key_rows) {
  return {map_of(p.q, dtype, p, p.H, p.bounds.Tq, query_rows),
          map_of(p.g, dtype, p, p.H, p.bounds.Tq, query_rows),
          map_of(p.k, dtype, p, p.Hk, p.bounds.Tk, key_rows),
          map_of(p.v, dtype, p, p.Hk, p.bounds.Tk, key_rows)};
}

template <class T, int kD, class Block>
void launch_query_gradient(const AttentionBackward& p, DType dtype, cudaStream_t stream) {
  launch_attention(attention_query_gradient_group_kernel<T, kD, Block>,
                   (p.bounds.Tq + Block::kRows - 1) / Block::kRows * p.B * p.H, Block::kThreads,
                   Block::kShared, stream, p, maps_of(p, dtype, Block::kRows, Block::kColumns));
}

template <class T, int kD, class Block>
void launch_key_gradient(const AttentionBackward& p, DType dtype, cudaStream_t stream) {
  launch_attention(attention_key_gradient_group_kernel<T, kD, Block>,
                   (p.bounds.Tk + Block::kRows - 1) / Block::kRows * p.B * p.Hk, Block::kThreads,
                   Block::kShared, stream, p, maps_of(p, dtype, Block::kColumns, Block::kRows));
}

}  // namespace

void hopper_attention_backward(const AttentionBackward& problem, DType dtype, cudaStream_t stream) {
  visit_hopper(problem, dtype, [&]<class T, int kD, bool kExtras>(FastTag<T, kD, kExtras>) {
    // The fastest that were tried on an H200.
    using Queries = std::conditional_t<kD == 64, BackwardBlock<64, 1, 64, 3, 2, false>,
                                       BackwardBlock<128, 2, 64, 3, 1, false>>;
    using Keys = std::conditional_t<kD == 64, BackwardBlock<64, 1, 64, 3, 2, true>,
                                    BackwardBlock<128, 2, 32, 4, 1, true>>;
    launch_query_gradient<T, kD, Queries>(problem, dtype, stream);
    launch_key_gradient<T, kD, Keys>(problem, dtype, stream);
  });
}

}  // namespace tendril::ops::cuda
