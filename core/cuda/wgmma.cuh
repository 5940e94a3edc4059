// Hopper's products of a warpgroup (compute capability 9.0a): four warps multiply (64, 16) by
// (16, 64), the right operand in shared memory, the sum in registers, without waiting.
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

using GroupTile = float[8][4];  // (64, 64) of a warpgroup

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
/// Keeps the compiler from reading a sum before the wait that stands above.
__device__ __forceinline__ void hold(GroupTile& c) {
#pragma unroll
  for (int n = 0; n < 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(c[n][i])::"memory");
}

/// The descriptor of rows from `address` on: groups of eight rows follow each other.
__device__ __forceinline__ uint64_t block_descriptor(uint32_t address) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kRowGroup = uint64_t{1024 / 16} << 32,
                     kUnused = uint64_t{1} << 16;
  return kSwizzle128 | kRowGroup | kUnused | (address >> 4 & 0x3FFFu);
}

// Operands: 0 to 31 the sum, then a, then b, then whether to add to the sum.
#define TENDRIL_GROUP_SUM                                                                       \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define TENDRIL_GROUP_ROW(n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#define TENDRIL_GROUP_OPERANDS                                                            \
  TENDRIL_GROUP_ROW(0), TENDRIL_GROUP_ROW(1), TENDRIL_GROUP_ROW(2), TENDRIL_GROUP_ROW(3), \
      TENDRIL_GROUP_ROW(4), TENDRIL_GROUP_ROW(5), TENDRIL_GROUP_ROW(6), TENDRIL_GROUP_ROW(7)
#define TENDRIL_GROUP_SHARED(type)                                                  \
  "{\n.reg .pred adds;\nsetp.ne.b32 adds, %34, 0;\n"                                \
  "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " " TENDRIL_GROUP_SUM \
  ", %32, %33, adds, 1, 1, 0, 0;\n}\n"
#define TENDRIL_GROUP_REGISTERS(type)                                               \
  "{\n.reg .pred adds;\nsetp.ne.b32 adds, %37, 0;\n"                                \
  "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " " TENDRIL_GROUP_SUM \
  ", {%32, %33, %34, %35}, %36, adds, 1, 1, 1;\n}\n"

/// c (+)= A B, both in shared memory: A[m][k] = rows of a, B[k][n] = rows[n] of b.
template <class T>
__device__ __forceinline__ void group_multiply(GroupTile& c, uint64_t a, uint64_t b, int adds) {
  if constexpr (std::is_same_v<T, bfloat16>)
    asm volatile(TENDRIL_GROUP_SHARED("bf16")
                 : TENDRIL_GROUP_OPERANDS
                 : "l"(a), "l"(b), "r"(adds)
                 : "memory");
  else
    asm volatile(TENDRIL_GROUP_SHARED("f16")
                 : TENDRIL_GROUP_OPERANDS
                 : "l"(a), "l"(b), "r"(adds)
                 : "memory");
}

/// c (+)= A B, A in registers: B[k][n] = b[k][n].
template <class T>
__device__ __forceinline__ void group_multiply(GroupTile& c, const uint32_t (&a)[4], uint64_t b,
                                               int adds) {
  if constexpr (std::is_same_v<T, bfloat16>)
    asm volatile(TENDRIL_GROUP_REGISTERS("bf16")
                 : TENDRIL_GROUP_OPERANDS
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(adds)
                 : "memory");
  else
    asm volatile(TENDRIL_GROUP_REGISTERS("f16")
                 : TENDRIL_GROUP_OPERANDS
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(adds)
                 : "memory");
}

#undef TENDRIL_GROUP_REGISTERS
#undef TENDRIL_GROUP_SHARED
#undef TENDRIL_GROUP_OPERANDS
#undef TENDRIL_GROUP_ROW
#undef TENDRIL_GROUP_SUM

}  // namespace tendril::cuda
