// Hopper's products of a warpgroup (compute capability 9.0a): four warps multiply (64, 16) by
// (16, 32), (16, 64) or (16, 128), the right operand in shared memory, the sum in registers,
// without waiting.
//
// The sum c[n] holds, in each warp, the C tile (16 x 8) of columns 8 n as in mma.cuh; warp w of the
// group has rows 16 w. Tiles in shared memory are blocks of 64 columns whose rows of 128 bytes are
// swizzled by block_offset(); they start at multiples of 1024 bytes.
//
// Order: fence_products(), products, commit_products(); after wait_products() and hold(c) the sums
// may be read. Shared memory that was written by ordinary stores or copies needs
// publish_shared() in the writing threads before the barrier.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include <tendril/core/cuda/tile.h>
#include <tendril/core/half.h>

namespace tendril::cuda {

template <int kColumns>
using GroupTile = float[kColumns / 8][4];  // (64, kColumns) of a warpgroup, kColumns 32, 64 or 128

__device__ __forceinline__ void publish_shared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void fence_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most `kPending` groups of products are unfinished.
template <int kPending>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/// Which warpgroup of its block the thread belongs to, in a way that the compiler knows to be the
/// same for all of them: products under conditions that may differ would wait for one another.
__device__ __forceinline__ int group_index() {
  return __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0);
}
/// Gives registers of this warpgroup back, or takes more, until each thread has kCount.
template <int kCount>
__device__ __forceinline__ void keep_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}
/// Keeps the compiler from reading a sum before the wait that stands above.
template <int kTiles>
__device__ __forceinline__ void hold(float (&c)[kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(c[n][i])::"memory");
}

/// The descriptor of rows from `address` on: groups of eight rows follow each other. Where the
/// columns of the product are columns of the tile, its blocks of 64 are `block_bytes` apart.
__device__ __forceinline__ uint64_t block_descriptor(uint32_t address, uint32_t block_bytes = 16) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kRowGroup = uint64_t{1024 / 16} << 32;
  return kSwizzle128 | kRowGroup | uint64_t{block_bytes / 16} << 16 | (address >> 4 & 0x3FFFu);
}

// Operands: the sum, then a, then b, then whether to add to the sum.
#define TENDRIL_GROUP_SUM_32 \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}"
#define TENDRIL_GROUP_SUM_64                                                          \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
  "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define TENDRIL_GROUP_SUM_128                                                         \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
  "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, "  \
  "%34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, "  \
  "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define TENDRIL_GROUP_ROW(n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#define TENDRIL_GROUP_OPERANDS_32 \
  TENDRIL_GROUP_ROW(0), TENDRIL_GROUP_ROW(1), TENDRIL_GROUP_ROW(2), TENDRIL_GROUP_ROW(3)
#define TENDRIL_GROUP_OPERANDS_64                                                         \
  TENDRIL_GROUP_ROW(0), TENDRIL_GROUP_ROW(1), TENDRIL_GROUP_ROW(2), TENDRIL_GROUP_ROW(3), \
      TENDRIL_GROUP_ROW(4), TENDRIL_GROUP_ROW(5), TENDRIL_GROUP_ROW(6), TENDRIL_GROUP_ROW(7)
#define TENDRIL_GROUP_OPERANDS_128                                                                \
  TENDRIL_GROUP_OPERANDS_64, TENDRIL_GROUP_ROW(8), TENDRIL_GROUP_ROW(9), TENDRIL_GROUP_ROW(10),   \
      TENDRIL_GROUP_ROW(11), TENDRIL_GROUP_ROW(12), TENDRIL_GROUP_ROW(13), TENDRIL_GROUP_ROW(14), \
      TENDRIL_GROUP_ROW(15)
// The operands' numbers differ: a and b begin at 16, 32 or 64.
#define TENDRIL_GROUP_SHARED(type, columns, a, b, adds)                 \
  "{\n.reg .pred adds;\nsetp.ne.b32 adds, " adds                        \
  ", 0;\n"                                                              \
  "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type \
  " " TENDRIL_GROUP_SUM_##columns ", " a ", " b ", adds, 1, 1, 0, 0;\n}\n"
#define TENDRIL_GROUP_REGISTERS(type, columns, a, b, adds)              \
  "{\n.reg .pred adds;\nsetp.ne.b32 adds, " adds                        \
  ", 0;\n"                                                              \
  "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type \
  " " TENDRIL_GROUP_SUM_##columns ", {" a "}, " b ", adds, 1, 1, 1;\n}\n"
#define TENDRIL_MULTIPLY_SHARED(type, columns, a_, b_, adds_)     \
  asm volatile(TENDRIL_GROUP_SHARED(type, columns, a_, b_, adds_) \
               : TENDRIL_GROUP_OPERANDS_##columns                 \
               : "l"(a), "l"(b), "r"(adds)                        \
               : "memory")
#define TENDRIL_MULTIPLY_REGISTERS(type, columns, a_, b_, adds_)               \
  asm volatile(TENDRIL_GROUP_REGISTERS(type, columns, a_, b_, adds_)           \
               : TENDRIL_GROUP_OPERANDS_##columns                              \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(adds) \
               : "memory")

/// c (+)= A B, both in shared memory: A[m][k] = rows of a, B[k][n] = rows[n] of b.
template <class T, int kTiles>
__device__ __forceinline__ void group_multiply(float (&c)[kTiles][4], uint64_t a, uint64_t b,
                                               int adds) {
  constexpr bool kBf16 = std::is_same_v<T, bfloat16>;
  static_assert(kTiles == 4 || kTiles == 8 || kTiles == 16);
  if constexpr (kTiles == 4 && kBf16)
    TENDRIL_MULTIPLY_SHARED("bf16", 32, "%16", "%17", "%18");
  else if constexpr (kTiles == 4)
    TENDRIL_MULTIPLY_SHARED("f16", 32, "%16", "%17", "%18");
  else if constexpr (kTiles == 8 && kBf16)
    TENDRIL_MULTIPLY_SHARED("bf16", 64, "%32", "%33", "%34");
  else if constexpr (kTiles == 8)
    TENDRIL_MULTIPLY_SHARED("f16", 64, "%32", "%33", "%34");
  else if constexpr (kBf16)
    TENDRIL_MULTIPLY_SHARED("bf16", 128, "%64", "%65", "%66");
  else
    TENDRIL_MULTIPLY_SHARED("f16", 128, "%64", "%65", "%66");
}

/// c (+)= A B, A in registers: B[k][n] = b[k][n].
template <class T, int kTiles>
__device__ __forceinline__ void group_multiply(float (&c)[kTiles][4], const uint32_t (&a)[4],
                                               uint64_t b, int adds) {
  constexpr bool kBf16 = std::is_same_v<T, bfloat16>;
  static_assert(kTiles == 8 || kTiles == 16);
  if constexpr (kTiles == 8 && kBf16)
    TENDRIL_MULTIPLY_REGISTERS("bf16", 64, "%32, %33, %34, %35", "%36", "%37");
  else if constexpr (kTiles == 8)
    TENDRIL_MULTIPLY_REGISTERS("f16", 64, "%32, %33, %34, %35", "%36", "%37");
  else if constexpr (kBf16)
    TENDRIL_MULTIPLY_REGISTERS("bf16", 128, "%64, %65, %66, %67", "%68", "%69");
  else
    TENDRIL_MULTIPLY_REGISTERS("f16", 128, "%64, %65, %66, %67", "%68", "%69");
}

#undef TENDRIL_MULTIPLY_REGISTERS
#undef TENDRIL_MULTIPLY_SHARED
#undef TENDRIL_GROUP_REGISTERS
#undef TENDRIL_GROUP_SHARED
#undef TENDRIL_GROUP_OPERANDS_128
#undef TENDRIL_GROUP_OPERANDS_64
#undef TENDRIL_GROUP_OPERANDS_32
#undef TENDRIL_GROUP_ROW
#undef TENDRIL_GROUP_SUM_128
#undef TENDRIL_GROUP_SUM_64
#undef TENDRIL_GROUP_SUM_32

}  // namespace tendril::cuda
