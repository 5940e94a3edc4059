// The runtime's last error, one for each host thread.
#pragma once

#include <string>

#include "include/cuda_runtime_api.h"

namespace emulated {

/// Remembers an error until it is asked for; returns it. `detail`, if there is one, is what
/// cudaGetErrorString will say.
cudaError_t raise(cudaError_t error, std::string detail = {});

}  // namespace emulated
