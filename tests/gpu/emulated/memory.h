// Which addresses are the emulated GPUs' memory.
#pragma once

#include <cstddef>

namespace emulated {

constexpr size_t kMemoryBytes = size_t{4} << 30;  // of each GPU

/// The GPU whose cudaMalloc gave the allocation that holds all of the bytes; -1 for no one's.
int owner_of(const void* data, size_t bytes = 0);

}  // namespace emulated
