// Asynchronous copies from global to shared memory, for the emulated GPU.
#pragma once

#include <cstddef>

#include "../emulated.h"

inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes) {
  ::emulated::copy_async(to, from, bytes, bytes);
}
inline void __pipeline_commit() { ::emulated::commit_copies(); }
inline void __pipeline_wait_prior(size_t pending) { ::emulated::wait_copies(pending); }
