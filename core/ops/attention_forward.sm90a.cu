// Attention's forward pass as in attention_forward.cu, with Hopper's warpgroup products: a
// warpgroup owns 64 queries, read from shared memory with every product (kept in registers as the
// left operand they came out wrong on an H200 from the second step on), and walks over 64 keys at a
// time. Several groups on a multiprocessor fill each other's waits. No product is left unfinished
// at the end of a step: the compiler would then make all of them wait for one another.

#include <tendril/core/ops/attention_kernels.cuh>

#include <tendril/core/ops/attention_group.cuh>
#include <tendril/core/ops/attention_softmax.cuh>

namespace tendril::ops::cuda {
namespace {

// Four blocks of one group share a multiprocessor, for long heads one block of two: one works while
// the others wait.
template <int kD>
struct ForwardBlock {
  static constexpr int kGroups = kD == 64 ? 1 : 2, kBlocks = kD == 64 ? 4 : 1;
  static constexpr int kRows = kGroups * kGroupRows, kThreads = kGroups * kGroupThreads;
  static constexpr uint32_t kStage = 2 * tile_bytes<kD>(kStep);  // K, V
  static constexpr uint32_t kShared = tile_bytes<kD>(kRows) + 2 * kStage;
};

template <class T, int kD, class Block = ForwardBlock<kD>>
__global__ void __launch_bounds__(Block::kThreads, Block::kBlocks)
    attention_forward_group_kernel(const AttentionForward p) {
  constexpr int kRows = Block::kRows, kThreads = Block::kThreads;
  using RightTile = BlockTile<kStep>;
  unsigned char* shared = dynamic_shared();
  const uint32_t queries = shared_address(shared), stages = queries + tile_bytes<kD>(kRows);
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
  start_tile<kRows, kD, kThreads, BlockTile<kRows>>(queries, p.q.rows<T>(b, h, t0), p.q.row,
                                                    Tq - t0, D);
  if (begin < end) start_keys(begin, 0);
  commit_copies();

  RowState<kD, 1> state;
  float scores[1][8][4] = {};  // made once: the first product of a step overwrites what it finds
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
    commit_products();
    wait_products<0>();
    hold(scores[0]);
    restrict_query_rows<false, 1, 8>(scores, p, b, h, t0 + row, s, power);
    soft_maximum<kD, 1, 8>(scores, state, power);
    uint32_t probabilities[4][4];
    pack_left<T>(probabilities, scores[0]);
    fence_products();
    start_sum<T, kD>(state.output[0], probabilities, keys + tile_bytes<kD>(kStep));
    commit_products();
    wait_products<0>();
    hold_sum<kD>(state.output[0]);
    hold_left(probabilities);
  }
  wait_copies<0>();
  __syncthreads();  // the queries have arrived, and nobody reads them any more
  finish<T, BlockTile<kRows>, kD, 1>(state, p, b, h, t0, row, power, shared);
}

}  // namespace

void hopper_attention_forward(const AttentionForward& problem, DType dtype, cudaStream_t stream) {
  visit_hopper(problem, dtype, [&]<class T, int kD, bool kExtras>(FastTag<T, kD, kExtras>) {
    using Block = ForwardBlock<kD>;
    const int64_t blocks =
        (problem.bounds.Tq + Block::kRows - 1) / Block::kRows * problem.B * problem.H;
    launch_attention(attention_forward_group_kernel<T, kD>, blocks, Block::kThreads, Block::kShared,
                     stream, problem);
  });
}

}  // namespace tendril::ops::cuda
