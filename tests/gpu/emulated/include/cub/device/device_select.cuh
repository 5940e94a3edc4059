// cub::DeviceSelect of the emulated GPU.
#pragma once

#include <cuda_runtime.h>

#include "../temporary.h"

namespace cub {

struct DeviceSelect {
  /// The items that `wanted`, in their order, and how many they are.
  template <class Items, class Out, class Number, class Wanted>
  static cudaError_t If(void* memory, size_t& bytes, Items items, Out* out, Number* selected,
                        int count, Wanted wanted, cudaStream_t stream) {
    if (count < 0) return cudaErrorInvalidValue;
    const size_t needed = 64 + static_cast<size_t>(count);
    return emulated::with_temporary(memory, bytes, needed, stream, [=] {
      Number found = 0;
      for (int i = 0; i < count; ++i)
        if (const auto item = items[i]; wanted(item)) out[found++] = item;
      *selected = found;
    });
  }
};

}  // namespace cub
