// The convention of all functions of cub: called without temporary memory they say how much they
// need, and do nothing else. Ours need none, but ask for it and overwrite it, so that memory given
// twice or too little shows.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstring>
#include <utility>

namespace emulated {

/// `work` is called on the stream, once `memory` has been overwritten.
template <class Work>
cudaError_t with_temporary(void* memory, size_t& bytes, size_t needed, cudaStream_t stream,
                           Work work) {
  if (!memory) {
    bytes = needed;
    return cudaSuccess;
  }
  if (bytes < needed) return cudaErrorInvalidValue;
  submit(stream, [memory, needed, work = std::move(work)] {
    std::memset(memory, 0xFF, needed);
    work();
  });
  return cudaSuccess;
}

}  // namespace emulated
