// The two products of fused attention for a warpgroup on Hopper. Private to core/ops/attention*.cu.
// Left rows belong to the group, 64 at a time; right tiles have 64 rows and come two deep.
#pragma once

#include <tendril/core/cuda/wgmma.cuh>
#include <tendril/core/ops/attention_warp.cuh>

namespace tendril::ops::cuda {

constexpr int kGroupRows = 64, kGroupThreads = 128, kStep = 64;
constexpr uint32_t kBlockBytes = kStep * 128;  // 64 rows of 64 columns

/// c = left right^T: rows [row, row + 64) of a tile of kRows.
template <class T, int kD, int kRows>
__device__ __forceinline__ void start_rows_product(GroupTile& c, uint32_t left, int row,
                                                   uint32_t right) {
#pragma unroll
  for (int k = 0; k < kD / 16; ++k) {
    const uint32_t from = static_cast<uint32_t>(k / 4 * kRows * 128 + row * 128 + k % 4 * 32);
    group_multiply<T>(c, block_descriptor(left + from),
                      block_descriptor(right + k / 4 * kBlockBytes + k % 4 * 32), k > 0);
  }
}

/// sum += p right.
template <class T, int kD>
__device__ __forceinline__ void start_sum(float (&sum)[kD / 8][4], const uint32_t (&p)[4][4],
                                          uint32_t right) {
#pragma unroll
  for (int block = 0; block < kD / 64; ++block)
#pragma unroll
    for (int k = 0; k < kStep / 16; ++k)
      group_multiply<T>(reinterpret_cast<GroupTile&>(sum[8 * block]), p[k],
                        block_descriptor(right + block * kBlockBytes + k * 16 * 128), 1);
}

template <int kD>
__device__ __forceinline__ void hold_sum(float (&sum)[kD / 8][4]) {
#pragma unroll
  for (int block = 0; block < kD / 64; ++block) hold(reinterpret_cast<GroupTile&>(sum[8 * block]));
}

/// A sum, rounded, as the left operand of the next product.
template <class T>
__device__ __forceinline__ void pack_left(uint32_t (&a)[4][4], const GroupTile& c) {
#pragma unroll
  for (int k = 0; k < 4; ++k)
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
