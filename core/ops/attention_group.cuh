// Fused attention for warpgroups on Hopper: their two products, which columns their rows see, and
// the tiles that a group of its own brings. Private to core/ops/attention*.cu.
//
// A block has kGroups warpgroups, each with 64 rows of a resident tile, and one more that copies
// the tiles of the other side, kColumns rows at a time, into kStages places. A place has a
// barrier that ends a phase when its tiles are full and one that does when all warps have left.
#pragma once

#include <tendril/core/cuda/bulk_copy.cuh>
#include <tendril/core/cuda/wgmma.cuh>
#include <tendril/core/ops/attention_warp.cuh>

namespace tendril::ops::cuda {

constexpr int kGroupRows = 64, kGroupThreads = 128, kGroupWarps = 4;

/// c = left right^T: rows [row, row + 64) of a tile of kRows, and a tile of kColumns rows.
template <class T, int kD, int kRows, int kColumns>
__device__ __forceinline__ void start_rows_product(GroupTile<kColumns>& c, uint32_t left, int row,
                                                   uint32_t right) {
#pragma unroll
  for (int k = 0; k < kD / 16; ++k) {
    const uint32_t from = static_cast<uint32_t>(k / 4 * kRows * 128 + row * 128 + k % 4 * 32);
    group_multiply<T>(c, block_descriptor(left + from),
                      block_descriptor(right + k / 4 * kColumns * 128 + k % 4 * 32), k > 0);
  }
}

/// sum += p right, a tile of kColumns rows.
template <class T, int kD, int kColumns>
__device__ __forceinline__ void start_sum(GroupTile<kD>& sum, const uint32_t (&p)[kColumns / 16][4],
                                          uint32_t right) {
#pragma unroll
  for (int k = 0; k < kColumns / 16; ++k)
    group_multiply<T>(sum, p[k], block_descriptor(right + k * 16 * 128, kColumns * 128), 1);
}

/// A sum, rounded, as the left operand of the next product.
template <class T, int kK>
__device__ __forceinline__ void pack_left(uint32_t (&a)[kK][4], const float (&c)[2 * kK][4]) {
#pragma unroll
  for (int k = 0; k < kK; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      a[k][i] = pack<T>(c[2 * k + i / 2][i % 2 * 2], c[2 * k + i / 2][i % 2 * 2 + 1]);
}

/// Keeps a left operand's registers from being reused before the wait that stands above.
template <int kK>
__device__ __forceinline__ void hold_left(uint32_t (&a)[kK][4]) {
#pragma unroll
  for (int k = 0; k < kK; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(a[k][i])::"memory");
}

/// Waits for the other warps of the group.
__device__ __forceinline__ void synchronize_group(int group) {
  asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(kGroupThreads) : "memory");
}

/// How `kBlocks` blocks of `kGroups` working groups and one that copies share the registers of a
/// multiprocessor: all start with the same number, then the one that copies keeps few and the
/// others take what it gives. They would wait for ever for more than that.
template <int kGroups, int kBlocks>
struct GroupRegisters {
  static constexpr int kThreads = (kGroups + 1) * kGroupThreads;
  static constexpr int kStart = 65536 / (kThreads * kBlocks) / 8 * 8, kCopying = 32;
  static constexpr int kWorking = (kStart + (kStart - kCopying) / kGroups) / 8 * 8;
  static_assert(kWorking <= 240);
};

/// Which columns the 64 rows of a group from `row` on see: keys when they are queries, and the
/// other way round. What only tiles at the edge need is computed there, for want of registers.
template <bool kRowsAreQueries>
struct VisibleColumns {
  int row;
  int all_first, all_last;  // what every row of the group sees

  __device__ __forceinline__ VisibleColumns(const AttentionBounds& bounds, int group_row)
      : row(group_row),
        all_first(first(bounds, group_row + kGroupRows - 1)),
        all_last(last(bounds, group_row)) {}

  __device__ __forceinline__ static int first(const AttentionBounds& bounds, int at) {
    return static_cast<int>(kRowsAreQueries ? bounds.first_key(at) : bounds.first_query(at));
  }
  __device__ __forceinline__ static int last(const AttentionBounds& bounds, int at) {
    return static_cast<int>(kRowsAreQueries ? bounds.last_key(at) : bounds.last_query(at));
  }

  /// -inf where a row does not see the column; the columns are [column, column + 8 kTiles).
  template <int kTiles>
  __device__ __forceinline__ void restrict(float (&c)[kTiles][4], const AttentionBounds& bounds,
                                           int column) const {
    if (column >= all_first && column + 8 * kTiles <= all_last) return;
    const int own_row = row + static_cast<int>(threadIdx.x) % kGroupThreads / 32 * 16 +
                        static_cast<int>(threadIdx.x & 31) / 4;
    const int own_column = column + 2 * (static_cast<int>(threadIdx.x) & 3);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int low = first(bounds, own_row + 8 * half) - own_column,
                high = last(bounds, own_row + 8 * half) - own_column;
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int at = 8 * n + i;
          if (at < low || at >= high) c[n][2 * half + i] = -INFINITY;
        }
    }
  }
};

/// The steps [first, last) of those from column `begin` on in which a group sees anything.
struct GroupSteps {
  int first, last;
  template <bool kRowsAreQueries>
  __device__ __forceinline__ GroupSteps(const VisibleColumns<kRowsAreQueries>& visible,
                                        const AttentionBounds& bounds, int begin, int steps,
                                        int columns) {
    const int from = ::max(visible.first(bounds, visible.row), begin) - begin;
    const int to = ::max(visible.last(bounds, visible.row + kGroupRows - 1), begin) - begin;
    first = ::min(from / columns, steps);
    last = ::max(first, ::min((to + columns - 1) / columns, steps));
  }
};

/// The barriers of the places: step n uses place n % kStages in the phase n / kStages.
template <int kStages>
class Pipeline {
 public:
  static constexpr uint32_t kBytes = 2 * 8 * kStages;

  __device__ __forceinline__ explicit Pipeline(uint32_t barriers) : barriers_(barriers) {}
  /// By one thread; `copies`: arrivals that fill a place, `readers`: warps that leave it.
  __device__ __forceinline__ void make(int copies, int readers) const {
    for (int stage = 0; stage < kStages; ++stage) {
      full(stage).make(copies);
      empty(stage).make(readers);
    }
  }
  __device__ __forceinline__ CopyBarrier full(int step) const {
    return CopyBarrier(barriers_ + 16 * (step % kStages));
  }
  __device__ __forceinline__ CopyBarrier empty(int step) const {
    return CopyBarrier(barriers_ + 16 * (step % kStages) + 8);
  }
  /// The copying warp waits until the readers have left the place.
  __device__ __forceinline__ void await_empty(int step) const {
    if (step >= kStages) empty(step).wait((step / kStages - 1) & 1);
  }
  __device__ __forceinline__ void await_full(int step) const {
    full(step).wait(step / kStages & 1);
  }
  /// Says that this warp has left the place.
  __device__ __forceinline__ void leave(int step) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) empty(step).arrive();
  }
  __device__ __forceinline__ void skip(int step) const {
    await_full(step);
    leave(step);
  }

 private:
  uint32_t barriers_;
};

/// Starts copying kRows rows of kD columns.
template <int kD, int kRows>
__device__ __forceinline__ void start_tile_copy(uint32_t tile, const CUtensorMap& map,
                                                CopyBarrier barrier, int row, int64_t head,
                                                int64_t batch) {
#pragma unroll
  for (int block = 0; block < kD / 64; ++block)
    start_bulk_copy(tile + block * kRows * 128, map, barrier, 64 * block, row,
                    static_cast<int>(head), static_cast<int>(batch));
}

/// The map of a tensor (B, heads, length, D) in tiles of `rows`.
inline CUtensorMap map_of(const HeadView& x, DType dtype, const AttentionProblem& p, int64_t heads,
                          int64_t length, int rows) {
  return tensor_map(x.data, dtype == bf16, {p.B, heads, length, p.D}, {x.batch, x.head, x.row},
                    rows);
}

/// Calls body(FastTag<T, kD, false>{}): heads are padded to 64 or 128 channels.
template <class Body>
void visit_hopper(const AttentionProblem& problem, DType dtype, const Body& body) {
  const auto with_size = [&]<class T>() {
    if (problem.D <= 64)
      body(FastTag<T, 64, false>{});
    else
      body(FastTag<T, 128, false>{});
  };
  if (dtype == bf16)
    with_size.template operator()<bfloat16>();
  else
    with_size.template operator()<float16>();
}

}  // namespace tendril::ops::cuda
