#include "devices.h"

#include <cstdlib>
#include <cstring>

#include "emulated.h"
#include "include/cuda_runtime_api.h"
#include "memory.h"
#include "status.h"

using emulated::raise;

namespace emulated {
namespace {

constexpr int kMostDevices = 8;

thread_local int current = 0;

}  // namespace

int device_count() {
  static const int count = [] {
    const char* wanted = std::getenv("TENDRIL_EMULATED_GPUS");
    if (!wanted || !*wanted) return 1;
    const int number = std::atoi(wanted);
    return number >= 1 && number <= kMostDevices ? number : 0;  // as with a broken driver
  }();
  return count;
}

int current_device() { return current; }

}  // namespace emulated

cudaError_t cudaGetDeviceCount(int* count) {
  *count = emulated::device_count();
  return *count > 0 ? cudaSuccess : raise(cudaErrorInvalidDevice);
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= emulated::device_count()) return raise(cudaErrorInvalidDevice);
  emulated::current = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = emulated::current;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= emulated::device_count()) return raise(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "emulated GPU");
  properties->major = 8;  // no file of kernels for 9.0a is compiled
  properties->minor = 0;
  properties->multiProcessorCount = 4;  // few: partial sums are as many
  properties->totalGlobalMem = emulated::kMemoryBytes;
  properties->sharedMemPerBlockOptin = emulated::kMostShared;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
