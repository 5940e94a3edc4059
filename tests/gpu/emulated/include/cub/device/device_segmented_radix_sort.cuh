// cub::DeviceSegmentedRadixSort of the emulated GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../sort_pairs.h"
#include "../temporary.h"

namespace cub {

struct DeviceSegmentedRadixSort {
  /// Segment i is [begins[i], ends[i]); items in none of them are not written.
  template <class Key, class Value, class Begins, class Ends>
  static cudaError_t SortPairs(void* memory, size_t& bytes, const Key* keys_in, Key* keys_out,
                               const Value* values_in, Value* values_out, int count, int segments,
                               Begins begins, Ends ends, int begin_bit, int end_bit,
                               cudaStream_t stream) {
    if (segments < 0 ||
        !emulated::sortable(keys_in, keys_out, values_in, values_out, count, begin_bit, end_bit))
      return cudaErrorInvalidValue;
    const size_t needed = 64 + static_cast<size_t>(count) * sizeof(Key);
    return emulated::with_temporary(memory, bytes, needed, stream, [=] {
      for (int i = 0; i < segments; ++i) {
        const int64_t first = begins[i], size = ends[i] - first;
        if (size > 0)
          emulated::sort_pairs(keys_in + first, keys_out + first, values_in + first,
                               values_out + first, static_cast<size_t>(size), begin_bit, end_bit);
      }
    });
  }
};

}  // namespace cub
