// Device memory under the caching allocator and the copies between devices. Internal; no CUDA
// types, so that what is compiled without nvcc can include it.
#pragma once

#include <cstdint>

#include <tendril/core/device.h>

namespace tendril::cuda {

/// Null when the device has no more memory.
void* allocate(Device device, int64_t bytes);
void release(Device device, void* data) noexcept;

/// Names the calling thread's current stream: memory is reused only on the stream it was used on.
void* stream_tag(Device device);

/// Copies dense bytes where at least one side is a GPU. To the CPU it waits, and throws what
/// kernels have reported.
void transfer(void* to, Device to_device, const void* from, Device from_device, int64_t bytes);

/// Waits for every GPU that this process has used; for the profiler. Errors stay for a later wait.
void wait_for_started_devices() noexcept;

}  // namespace tendril::cuda
