// Two emulated GPUs (TENDRIL_EMULATED_GPUS=2): each has its own memory, streams and settings, and
// what a machine without access between GPUs refuses is refused.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "gpu/emulated/samples.h"

using namespace emulated::samples;

namespace {

bool left_out() {
  int count = 0;
  cudaGetDeviceCount(&count);
  if (count >= 2) return false;
  MESSAGE("left out: needs two GPUs; got ", count);
  return true;
}

// Makes a GPU current while in scope.
struct On {
  int before = 0;
  explicit On(int device) {
    cudaGetDevice(&before);
    CHECK(cudaSetDevice(device) == cudaSuccess);
  }
  ~On() { cudaSetDevice(before); }
  On(const On&) = delete;
  On& operator=(const On&) = delete;
};

// What it gave; the runtime forgets it.
cudaError_t status(cudaError_t error) {
  cudaGetLastError();
  return error;
}

cudaError_t reversed_on(int device, const int* in, int* out, cudaStream_t stream) {
  const On on(device);
  reverse(in, out, 1, 4, true, stream);
  return cudaGetLastError();
}

struct Stream {
  cudaStream_t handle = nullptr;
  Stream() { cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking); }
  ~Stream() { cudaStreamDestroy(handle); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
};

}  // namespace

TEST_SUITE("emulated_devices") {
  TEST_CASE("there are as many as asked for, and one of them is current") {
    if (left_out()) return;
    int count = 0, current = -1;
    cudaGetDeviceCount(&count);
    CHECK(status(cudaSetDevice(count)) == cudaErrorInvalidDevice);
    CHECK(status(cudaSetDevice(-1)) == cudaErrorInvalidDevice);
    const On second(1);
    CHECK(cudaGetDevice(&current) == cudaSuccess);
    CHECK(current == 1);
    cudaDeviceProp properties;
    CHECK(cudaGetDeviceProperties(&properties, 1) == cudaSuccess);
    CHECK(status(cudaGetDeviceProperties(&properties, count)) == cudaErrorInvalidDevice);
  }

  TEST_CASE("memory belongs to the GPU that was current") {
    if (left_out()) return;
    const Array<int> first({1, 2, 3, 4});
    size_t free_before = 0, free_after = 0, others = 0, total = 0;
    const On on(1);
    cudaMemGetInfo(&free_before, &total);
    const Array<int> second(std::vector<int>(4));
    cudaMemGetInfo(&free_after, &total);
    CHECK(free_after < free_before);
    {
      const On back(0);
      cudaMemGetInfo(&others, &total);
      const Array<int> more(std::vector<int>(1000));
      cudaMemGetInfo(&free_before, &total);
      CHECK(free_before < others);
    }
    cudaMemGetInfo(&others, &total);
    CHECK(others == free_after);

    // The current GPU is the second: its streams do not reach the first's memory.
    constexpr size_t kBytes = 4 * sizeof(int);
    std::vector<int> host(4);
    CHECK(status(cudaMemcpyAsync(second.data(), first.data(), kBytes, cudaMemcpyDeviceToDevice,
                                 nullptr)) == cudaErrorInvalidValue);
    CHECK(status(cudaMemcpyAsync(host.data(), first.data(), kBytes, cudaMemcpyDeviceToHost,
                                 nullptr)) == cudaErrorInvalidValue);
    CHECK(status(cudaMemsetAsync(first.data(), 0, kBytes, nullptr)) == cudaErrorInvalidValue);
    // A copy between GPUs says whose memory is whose.
    CHECK(status(cudaMemcpyPeerAsync(second.data(), 0, first.data(), 1, kBytes, nullptr)) ==
          cudaErrorInvalidValue);
    CHECK(status(cudaMemcpyPeerAsync(second.data(), 7, first.data(), 0, kBytes, nullptr)) ==
          cudaErrorInvalidDevice);
    CHECK(cudaMemcpyPeerAsync(second.data(), 1, first.data(), 0, kBytes, nullptr) == cudaSuccess);
    CHECK(second.values() == std::vector<int>{1, 2, 3, 4});
  }

  TEST_CASE("a kernel gets memory and a stream of the current GPU") {
    if (left_out()) return;
    const Array<int> in({1, 2, 3, 4}), out(std::vector<int>(4));
    const Stream stream;  // all of the first
    CHECK(reversed_on(0, in.data(), out.data(), stream.handle) == cudaSuccess);
    CHECK(out.values() == std::vector<int>{4, 3, 2, 1});
    CHECK(reversed_on(1, in.data(), out.data(), stream.handle) == cudaErrorInvalidResourceHandle);
    CHECK(reversed_on(1, in.data(), out.data(), nullptr) == cudaErrorIllegalAddress);
  }

  TEST_CASE("an event is recorded on its own GPU, and waited for anywhere") {
    if (left_out()) return;
    const Stream of_first;
    const On on(1);
    const Stream of_second;
    cudaEvent_t event = nullptr;
    CHECK(cudaEventCreate(&event) == cudaSuccess);
    CHECK(status(cudaEventRecord(event, of_first.handle)) == cudaErrorInvalidResourceHandle);
    CHECK(cudaEventRecord(event, of_second.handle) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(of_first.handle, event, 0) == cudaSuccess);
    CHECK(cudaEventDestroy(event) == cudaSuccess);
  }
}
