// What every .cu file needs: the current stream, checked calls, and faults that kernels report.
#pragma once

#include <cuda_runtime.h>

#include <tendril/core/cuda.h>

namespace tendril::cuda {

/// Per process.
inline constexpr int kMostDevices = 16;

/// Throws an Error that names `what` unless the status is cudaSuccess.
void check(cudaError_t status, const char* what);

/// The calling thread's current stream; makes the device current for the CUDA runtime.
cudaStream_t stream(Device device);

/// Before the host waits for a GPU: counts it. Error while a graph is recorded.
void count_wait();

/// A string literal of the host, for a kernel to hand back. A literal written in a kernel is at an
/// address of the device, which the host cannot read: there it does not compile.
struct HostText {
  const char* text = nullptr;
  HostText() = default;
  HostText(const char* literal) : text(literal) {}
};

/// The first index (or value) out of range that a kernel met. Kernels skip it; the error is thrown
/// when the host next reads numbers of the device or calls synchronize().
struct IndexFault {
  unsigned int set;
  const char* op;
  const char* rule;  // what values must be; null for an index
  int64_t index, size;
  double value;

  __device__ void report(HostText where, int64_t bad_index, int64_t axis_size) {
    if (atomicCAS(&set, 0u, 1u) != 0u) return;
    op = where.text;
    rule = nullptr;
    index = bad_index;
    size = axis_size;
  }
  __device__ void report_value(HostText where, HostText what_they_must_be, double bad_value) {
    if (atomicCAS(&set, 0u, 1u) != 0u) return;
    op = where.text;
    rule = what_they_must_be.text;
    value = bad_value;
  }
};

/// In the memory of the device, for kernels to report to.
IndexFault* index_fault(Device device);

/// Blocks that cover `count` items, `each` per block; at most `most`, for loops that stride.
inline unsigned int blocks_for(int64_t count, int64_t each, int64_t most = 1 << 30) {
  const int64_t blocks = (count + each - 1) / each;
  return static_cast<unsigned int>(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

}  // namespace tendril::cuda

#define TENDRIL_CUDA_CHECK(call) ::tendril::cuda::check((call), #call)
/// After a kernel launch; `op` names the operation.
#define TENDRIL_CUDA_CHECK_LAUNCH(op) ::tendril::cuda::check(cudaGetLastError(), op)
