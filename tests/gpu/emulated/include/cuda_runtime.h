// The CUDA runtime as far as Tendril's device code uses it, for the emulated GPU.
#pragma once

#include <math.h>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include "../emulated.h"
#include "cuda_intrinsics.h"
#include "cuda_runtime_api.h"
#include "vector_types.h"

// ---------------------------------------------------------------- the language

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
// launches.cpp puts a check into the kernel as well.
#define __launch_bounds__(...)
// Blocks run wholly on one OS thread. launches.cpp has each block begin with a pattern in it.
#define __shared__ static thread_local

// ---------------------------------------------------------------- launches

namespace emulated {

/// What launches.cpp makes of kernel<<<grid, block, shared, stream>>>(arguments...).
class Launch {
 public:
  Launch(dim3 grid, dim3 block, size_t shared = 0, cudaStream_t stream = nullptr)
      : grid_(grid), block_(block), shared_(shared), stream_(stream) {}

  Launch& of(const void* kernel) {
    identity_ = kernel;
    return *this;
  }
  template <class Kernel, class... Arguments>
  void run(const Kernel& kernel, Arguments... arguments) const {
    const auto one_thread = [kernel, values = std::tuple(arguments...)] {
      std::apply(kernel, values);
    };
    launch(grid_, block_, shared_, stream_, one_thread, identity_, {address_in(arguments)...});
  }

 private:
  // Those inside of structures are not looked at.
  template <class T>
  static const void* address_in(const T& argument) {
    if constexpr (std::is_pointer_v<T>)
      return argument;
    else
      return nullptr;
  }

  dim3 grid_, block_;
  size_t shared_;
  cudaStream_t stream_;
  const void* identity_ = nullptr;
};

}  // namespace emulated

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  ::emulated::Launch(config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream)
      .of(reinterpret_cast<const void*>(kernel))
      .run(kernel, Parameters(arguments)...);
  return cudaPeekAtLastError();
}

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute,
                                 int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

template <class... Parameters>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*)(Parameters...),
                                                          int block_size, size_t) {
  *blocks = 2048 / block_size;
  return cudaSuccess;
}

template <class T>
cudaError_t cudaMalloc(T** data, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(data), bytes);
}
template <class T>
cudaError_t cudaMallocHost(T** data, size_t bytes) {
  return cudaMallocHost(reinterpret_cast<void**>(data), bytes);
}
