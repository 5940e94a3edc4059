// Which GPUs there are, and which one the calling thread uses.
#pragma once

namespace emulated {

/// TENDRIL_EMULATED_GPUS of the environment, 1 to 8; 1 without it.
int device_count();
/// Of the calling thread, as cudaSetDevice has left it.
int current_device();

}  // namespace emulated
