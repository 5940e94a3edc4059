// Which addresses are the emulated GPU's memory.
#pragma once

#include <cstddef>

namespace emulated {

/// Whether all of the bytes lie in one allocation of cudaMalloc.
bool is_device_memory(const void* data, size_t bytes);
/// Whether the address lies in one.
bool touches_device_memory(const void* data);

}  // namespace emulated
