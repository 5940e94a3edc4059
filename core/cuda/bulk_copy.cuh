// Hopper's bulk copies (compute capability 9.0): one thread starts the copy of a whole tile from a
// tensor into shared memory, and a barrier there counts the bytes that have arrived.
//
// A phase of a barrier ends when as many arrivals as it was made for have come, and all bytes that
// they said to expect; wait(parity) returns when the phase of that parity (0, 1, 0, ...) has ended.
// Tiles are written for the products of wgmma.cuh: blocks of 64 columns of 16 bits, swizzled.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include <tendril/core/cuda/runtime.cuh>

namespace tendril::cuda {

/// A barrier in shared memory, 8 bytes.
class CopyBarrier {
 public:
  __device__ __forceinline__ explicit CopyBarrier(uint32_t address) : address_(address) {}
  __device__ __forceinline__ void make(int arrivals) const {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address_), "r"(arrivals)
                 : "memory");
  }
  __device__ __forceinline__ void arrive() const {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address_) : "memory");
  }
  __device__ __forceinline__ void arrive_and_expect(uint32_t bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address_),
                 "r"(bytes)
                 : "memory");
  }
  /// Arrives when this thread's copies (copy_async) up to here have.
  __device__ __forceinline__ void arrive_with_copies() const {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(address_) : "memory");
  }
  __device__ __forceinline__ void wait(uint32_t parity) const {
    uint32_t done;
    do {
      asm volatile(
          "{\n.reg .pred ended;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
          "selp.u32 %0, 1, 0, ended;\n}\n"
          : "=r"(done)
          : "r"(address_), "r"(parity)
          : "memory");
    } while (done == 0);
  }
  __device__ __forceinline__ uint32_t address() const { return address_; }

 private:
  uint32_t address_;
};

/// Starts copying the tile whose first element is (column, row, head, batch); what lies outside
/// the tensor becomes 0.
__device__ __forceinline__ void start_bulk_copy(uint32_t destination, const CUtensorMap& map,
                                                CopyBarrier barrier, int column, int row, int head,
                                                int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4, %5, %6}], [%2];" ::"r"(destination),
      "l"(&map), "r"(barrier.address()), "r"(column), "r"(row), "r"(head), "r"(batch)
      : "memory");
}

/// Describes a tensor (batch, heads, rows, columns) of 16-bit numbers with these strides in
/// elements, columns dense, to be copied in tiles of `tile_rows` x 64. The pointer and the strides
/// must be multiples of 16 bytes.
CUtensorMap tensor_map(const void* data, bool is_bf16, const int64_t (&sizes)[4],
                       const int64_t (&strides)[3], int tile_rows);

}  // namespace tendril::cuda
