// cub::DeviceRadixSort of the emulated GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../sort_pairs.h"
#include "../temporary.h"

namespace cub {

struct DeviceRadixSort {
  template <class Key, class Value, class Count>
  static cudaError_t SortPairs(void* memory, size_t& bytes, const Key* keys_in, Key* keys_out,
                               const Value* values_in, Value* values_out, Count count,
                               int begin_bit, int end_bit, cudaStream_t stream) {
    const auto items = static_cast<int64_t>(count);
    if (!emulated::sortable(keys_in, keys_out, values_in, values_out, items, begin_bit, end_bit))
      return cudaErrorInvalidValue;
    const auto size = static_cast<size_t>(items);
    return emulated::with_temporary(memory, bytes, 64 + size * sizeof(Key), stream, [=] {
      emulated::sort_pairs(keys_in, keys_out, values_in, values_out, size, begin_bit, end_bit);
    });
  }
};

}  // namespace cub
