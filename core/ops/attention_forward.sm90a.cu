// Attention's forward pass as in attention_forward.cu, with Hopper's warpgroup products and bulk
// copies: a group owns 64 queries and walks over the keys. While the tensor cores add the values of
// one tile of keys, the group computes the probabilities of the next; other groups of the
// multiprocessor fill the waits that remain. The queries are read from shared memory with every
// product.

#include <tendril/core/ops/attention_kernels.cuh>

#include <tendril/core/ops/attention_group.cuh>
#include <tendril/core/ops/attention_softmax.cuh>

namespace tendril::ops::cuda {
namespace {

template <int kD, int kGroupCount, int kKeyCount, int kStageCount, int kBlockCount>
struct ForwardBlock {
  static constexpr int kGroups = kGroupCount, kKeys = kKeyCount, kStages = kStageCount,
                       kBlocks = kBlockCount;
  using Registers = GroupRegisters<kGroups, kBlocks>;
  static constexpr int kRows = kGroups * kGroupRows, kThreads = Registers::kThreads;
  static constexpr uint32_t kTile = tile_bytes<kD>(kKeys);
  static constexpr uint32_t kBarriers = tile_bytes<kD>(kRows) + 2 * kStages * kTile;
  static constexpr uint32_t kShared = kBarriers + 8 + 2 * Pipeline<kStages>::kBytes;
};

// What the warps of a block share.
template <int kD, class Block>
struct ForwardMemory {
  uint32_t queries = shared_address(dynamic_shared());
  uint32_t tiles = queries + tile_bytes<kD>(Block::kRows);
  CopyBarrier queries_full{queries + Block::kBarriers};
  Pipeline<Block::kStages> keys{queries + Block::kBarriers + 8},
      values{queries + Block::kBarriers + 8 + Pipeline<Block::kStages>::kBytes};

  __device__ __forceinline__ void make_barriers() const {
    if (threadIdx.x == 0) {
      queries_full.make(1);
      keys.make(1, Block::kGroups * kGroupWarps);
      values.make(1, Block::kGroups * kGroupWarps);
      publish_shared();
    }
    __syncthreads();
  }
  __device__ __forceinline__ uint32_t key_tile(int step) const {
    return tiles + step % Block::kStages * 2 * Block::kTile;
  }
  __device__ __forceinline__ uint32_t value_tile(int step) const {
    return key_tile(step) + Block::kTile;
  }
};

struct ForwardMaps {
  CUtensorMap q, k, v;
};

// What the copying thread of a block does.
template <int kD, class Block>
__device__ __forceinline__ void bring_tiles(const ForwardMemory<kD, Block>& memory,
                                            const AttentionForward& p, const ForwardMaps& maps,
                                            int64_t b, int64_t h, int t0, int begin, int steps) {
  memory.queries_full.arrive_and_expect(tile_bytes<kD>(Block::kRows));
  start_tile_copy<kD, Block::kRows>(memory.queries, maps.q, memory.queries_full, t0, h, b);
  const int64_t hk = p.key_head(h);
  for (int n = 0; n < steps; ++n) {
    const int s = begin + n * Block::kKeys;
    const CopyBarrier keys = memory.keys.full(n), values = memory.values.full(n);
    memory.keys.await_empty(n);
    keys.arrive_and_expect(Block::kTile);
    start_tile_copy<kD, Block::kKeys>(memory.key_tile(n), maps.k, keys, s, hk, b);
    memory.values.await_empty(n);
    values.arrive_and_expect(Block::kTile);
    start_tile_copy<kD, Block::kKeys>(memory.value_tile(n), maps.v, values, s, hk, b);
  }
}

template <class T, int kD, class Block>
__global__ void __launch_bounds__(Block::kThreads, Block::kBlocks)
    attention_forward_group_kernel(const __grid_constant__ AttentionForward p,
                                   const __grid_constant__ ForwardMaps maps) {
  constexpr int kRows = Block::kRows, kKeys = Block::kKeys;
  const ForwardMemory<kD, Block> memory;
  const int Tq = static_cast<int>(p.bounds.Tq);
  const int blocks = (Tq + kRows - 1) / kRows;
  const int64_t bh = blockIdx.x / blocks, b = bh / p.H, h = bh % p.H;
  // The last queries see the most keys: they start first.
  const int t0 = (blocks - 1 - static_cast<int>(blockIdx.x % blocks)) * kRows;
  const int begin = static_cast<int>(p.bounds.first_key(t0)) / kKeys * kKeys;
  const int end = static_cast<int>(p.bounds.last_key(min(t0 + kRows, Tq) - 1));
  const int steps = end > begin ? (end - begin + kKeys - 1) / kKeys : 0;

  memory.make_barriers();

  const int group = group_index();
  if (group == Block::kGroups) {  // the one that copies
    keep_registers<Block::Registers::kCopying>();
    if (threadIdx.x % kGroupThreads != 0) return;
    bring_tiles<kD>(memory, p, maps, b, h, t0, begin, steps);
    return;
  }

  take_registers<Block::Registers::kWorking>();
  const int row = static_cast<int>(threadIdx.x) / 32 * 16;  // of the warp, in the block
  const int group_row = group * kGroupRows;
  const float power = static_cast<float>(p.scale) * kLog2E;
  const VisibleColumns<true> visible(p.bounds, t0 + group_row);
  const GroupSteps mine(visible, p.bounds, begin, steps, kKeys);
  RowState<kD, 1> state;
  float scores[1][kKeys / 8][4] = {};  // the first product of a step overwrites what it finds
  uint32_t probabilities[kKeys / 16][4];
  const auto start_scores = [&](int n) {
    start_rows_product<T, kD, kRows, kKeys>(scores[0], memory.queries, group_row,
                                            memory.key_tile(n));
    commit_products();
  };
  const auto start_output = [&](int n) {
    start_sum<T, kD, kKeys>(state.output[0], probabilities, memory.value_tile(n));
    commit_products();
  };

  for (int n = 0; n < mine.first; ++n) memory.keys.skip(n), memory.values.skip(n);
  memory.queries_full.wait(0);
  if (mine.first < mine.last) {
    memory.keys.await_full(mine.first);
    fence_products();
    start_scores(mine.first);
    wait_products<0>();
    hold(scores[0]);
    memory.keys.leave(mine.first);
    visible.restrict(scores[0], p.bounds, begin + mine.first * kKeys);
    soft_maximum<kD, 1, kKeys / 8>(scores, state, power);
    pack_left<T>(probabilities, scores[0]);
    for (int n = mine.first + 1; n < mine.last; ++n) {
      memory.keys.await_full(n);
      fence_products();
      start_scores(n);
      memory.values.await_full(n - 1);
      start_output(n - 1);
      wait_products<1>();  // for the scores
      hold(scores[0]);
      memory.keys.leave(n);
      visible.restrict(scores[0], p.bounds, begin + n * kKeys);
      float shrink[1][2];
      soft_probabilities<kD, 1, kKeys / 8>(scores, state, power, shrink);
      wait_products<0>();
      hold(state.output[0]);
      hold_left(probabilities);
      memory.values.leave(n - 1);
      shrink_output(state, shrink);
      pack_left<T>(probabilities, scores[0]);
    }
    memory.values.await_full(mine.last - 1);
    fence_products();
    start_output(mine.last - 1);
    wait_products<0>();
    hold(state.output[0]);
    hold_left(probabilities);
    memory.values.leave(mine.last - 1);
  }
  for (int n = mine.last; n < steps; ++n) memory.keys.skip(n), memory.values.skip(n);
  synchronize_group(group);  // nobody reads the group's queries any more
  finish<T, BlockTile<kRows>, kD, 1>(state, p, b, h, t0, row, power, dynamic_shared());
}

template <class T, int kD, class Block>
void launch_forward(const AttentionForward& p, DType dtype, cudaStream_t stream) {
  const ForwardMaps maps{map_of(p.q, dtype, p, p.H, p.bounds.Tq, Block::kRows),
                         map_of(p.k, dtype, p, p.Hk, p.bounds.Tk, Block::kKeys),
                         map_of(p.v, dtype, p, p.Hk, p.bounds.Tk, Block::kKeys)};
  const int64_t blocks = (p.bounds.Tq + Block::kRows - 1) / Block::kRows * p.B * p.H;
  launch_attention(attention_forward_group_kernel<T, kD, Block>, blocks, Block::kThreads,
                   Block::kShared, stream, p, maps);
}

}  // namespace

void hopper_attention_forward(const AttentionForward& problem, DType dtype, cudaStream_t stream) {
  visit_hopper(problem, dtype, [&]<class T, int kD, bool kExtras>(FastTag<T, kD, kExtras>) {
    // The fastest that were tried on an H200.
    using Block =
        std::conditional_t<kD == 64, ForwardBlock<64, 1, 64, 3, 3>, ForwardBlock<128, 3, 64, 2, 1>>;
    launch_forward<T, kD, Block>(problem, dtype, stream);
  });
}

}  // namespace tendril::ops::cuda
