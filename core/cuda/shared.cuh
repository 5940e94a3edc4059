// Shared memory whose size a launch gives.
#pragma once

#include <cuda_runtime.h>

namespace tendril::cuda {

/// The block's dynamic shared memory, aligned to 1024 bytes.
__device__ inline unsigned char* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char tendril_dynamic_shared[];
  return tendril_dynamic_shared;
}

}  // namespace tendril::cuda
