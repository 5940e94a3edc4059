// The emulated GPU (tests/gpu/emulated) on kernels whose results are known, and on kernels that do
// what a GPU forbids. The kernels are in tests/gpu/emulated/samples.cu.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "gpu/emulated/samples.h"

using namespace emulated::samples;

namespace {

std::vector<int> numbers(int count) {
  std::vector<int> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), 1);
  return values;
}

// What the last kernel did wrong; empty for nothing.
std::string taken_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

std::string error_of(Wrong what, int threads = 64) {
  do_wrong(what, threads);
  return taken_error();
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

std::vector<int> shuffled(Shuffle kind, int by, int width = 32, int threads = 64) {
  const Array<int> in(numbers(threads)), out(std::vector<int>(static_cast<size_t>(threads)));
  shuffle(kind, in.data(), out.data(), threads, by, width);
  CHECK(taken_error() == "");
  return out.values();
}

}  // namespace

TEST_SUITE("emulated_gpu") {
  TEST_CASE("threads know where they are, in three dimensions") {
    const Array<int> out(std::vector<int>(2 * 3 * 2 * 24));
    number_threads(out.data(), dim3(2, 3, 2), dim3(4, 3, 2));
    CHECK(taken_error() == "");
    const std::vector<int> got = out.values();
    for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == static_cast<int>(i % 24));
  }

  TEST_CASE("a barrier lets every thread see what the others wrote; without it that shows") {
    for (const int threads : {1, 31, 33, 256, 1024}) {
      const Array<int> in(numbers(4 * threads)), out(numbers(4 * threads));
      reverse(in.data(), out.data(), 4, threads, true, nullptr);
      CHECK(taken_error() == "");
      std::vector<int> expected = numbers(4 * threads);
      for (int block = 0; block < 4; ++block)
        std::reverse(expected.begin() + block * threads, expected.begin() + (block + 1) * threads);
      CHECK(out.values() == expected);
      if (threads == 1) continue;
      reverse(in.data(), out.data(), 2, threads, false, nullptr);
      CHECK(out.values() != expected);
    }
  }

  TEST_CASE("shuffles move values within a warp and within parts of it") {
    const auto up = shuffled(Shuffle::up, 3), down = shuffled(Shuffle::down, 3),
               turned = shuffled(Shuffle::exclusive_or, 5), one = shuffled(Shuffle::from, 7);
    const auto up8 = shuffled(Shuffle::up, 3, 8), one8 = shuffled(Shuffle::from, 9, 8);
    for (int i = 0; i < 64; ++i) {
      const auto at = static_cast<size_t>(i);
      const int lane = i % 32, warp = i - lane, value = i + 1;
      CHECK(up[at] == (lane < 3 ? value : value - 3));
      CHECK(down[at] == (lane > 28 ? value : value + 3));
      CHECK(turned[at] == warp + (lane ^ 5) + 1);
      CHECK(one[at] == warp + 8);
      CHECK(up8[at] == (i % 8 < 3 ? value : value - 3));
      CHECK(one8[at] == i / 8 * 8 + 2);
    }
  }

  TEST_CASE("a ballot says which lanes agree") {
    std::vector<int> in(32);
    in[0] = in[5] = in[31] = 4;
    const Array<int> votes(in);
    const Array<unsigned> out({0});
    ballot(votes.data(), out.data());
    CHECK(out.values()[0] == (1u | 1u << 5 | 1u << 31));
  }

  TEST_CASE("an exchange shows all lanes of the warp, zeros for those that returned") {
    for (const int leave_from : {1, 20, 32}) {
      const Array<int> out(std::vector<int>(80));
      exchange_sums(out.data(), 80, leave_from);
      CHECK(taken_error() == "");
      const std::vector<int> got = out.values();
      for (int warp = 0; warp < 80; warp += 32) {
        const int lanes = std::min(leave_from, std::min(32, 80 - warp));
        int sum = 0;
        for (int lane = 0; lane < lanes; ++lane) sum += 101 * (warp + lane);
        for (int lane = 0; lane < std::min(32, 80 - warp); ++lane)
          CHECK(got[static_cast<size_t>(warp + lane)] == (lane < leave_from ? sum : 0));
      }
    }
  }

  TEST_CASE("shared memory and new memory hold a pattern until they are written") {
    const Array<uint32_t> out(std::vector<uint32_t>(6));
    unset_shared(out.data(), 3);
    CHECK(taken_error() == "");
    CHECK(out.values() == std::vector<uint32_t>(6, 0xFFFFFFFFu));
    void* memory = nullptr;
    REQUIRE(cudaMalloc(&memory, 4) == cudaSuccess);
    CHECK(*static_cast<uint32_t*>(memory) == 0xFFFFFFFFu);
    CHECK(cudaFree(memory) == cudaSuccess);
    CHECK(cudaFree(memory) == cudaErrorInvalidValue);
    cudaGetLastError();
  }

  TEST_CASE("asynchronous copies are there after the wait and not before") {
    const Array<int> in(numbers(128)), out(std::vector<int>(128));
    for (const int valid : {16, 8, 0})
      for (int launch = 0; launch < 2; ++launch) {
        copy_in(in.data(), out.data(), 32, valid, true);
        CHECK(taken_error() == "");
        const std::vector<int> got = out.values();
        for (int i = 0; i < 128; ++i)
          CHECK(got[static_cast<size_t>(i)] == (i % 4 < valid / 4 ? 2 * (i + 1) : 0));
      }
    // In every second block they come as late as they may.
    int unfinished = 0;
    for (int launch = 0; launch < 2; ++launch) {
      copy_in(in.data(), out.data(), 32, 16, false);
      unfinished += out.values()[3] != 8;
    }
    CHECK(taken_error() == "");
    CHECK(unfinished == 1);
  }

  TEST_CASE("what a GPU forbids is an error that says what and where") {
    CHECK(contains(error_of(Wrong::barrier_in_branch), "__syncthreads"));
    CHECK(contains(error_of(Wrong::two_barriers), "while others wait in the one at"));
    CHECK(contains(error_of(Wrong::barrier_after_return), "__syncthreads"));
    CHECK(contains(error_of(Wrong::two_shuffles), "while other lanes wait in the one at"));
    const std::string stuck = error_of(Wrong::shuffle_and_barrier, 32);
    CHECK(contains(stuck, "31 of 32 lanes of a warp wait at"));
    CHECK(contains(stuck, "threads wait in __syncthreads at"));
    CHECK(contains(error_of(Wrong::some_lanes), "some lanes"));
    CHECK(contains(error_of(Wrong::address_beyond_shared), "outside of its dynamic shared memory"));
#ifndef __SANITIZE_ADDRESS__
    CHECK(contains(error_of(Wrong::write_beyond_shared), "wrote byte 64 of dynamic shared memory"));
#endif
    CHECK(contains(error_of(Wrong::copy_without_wait), "without waiting"));
    CHECK(contains(error_of(Wrong::misaligned_copy), "misaligned"));
    CHECK(contains(error_of(Wrong::too_many_threads, 129), "__launch_bounds__"));
    CHECK(contains(error_of(Wrong::two_barriers), "samples.cu:"));
    CHECK(error_of(Wrong::too_many_threads, 128) == "");
    // The device goes on afterwards.
    CHECK(shuffled(Shuffle::from, 0)[5] == 1);
  }

  TEST_CASE("launches that a GPU cannot start are errors") {
    const auto status_of = [](int threads, size_t shared, bool allow) {
      launch_with(threads, shared, allow);
      return cudaGetLastError();
    };
    CHECK(status_of(1025, 0, false) == cudaErrorInvalidConfiguration);
    CHECK(status_of(0, 0, false) == cudaErrorInvalidConfiguration);
    CHECK(status_of(1024, 48 * 1024, false) == cudaSuccess);
    CHECK(status_of(1, 48 * 1024 + 1, false) == cudaErrorInvalidValue);
    CHECK(status_of(1, 100 * 1024, true) == cudaSuccess);
    CHECK(status_of(1, 228 * 1024, true) == cudaErrorInvalidValue);
  }

  TEST_CASE("copies and fills must lie where they say") {
    const Array<int> device({1, 2, 3, 4});
    std::vector<int> host(4);
    const auto copy = [&](void* to, const void* from, cudaMemcpyKind kind) {
      cudaMemcpyAsync(to, from, 16, kind, nullptr);
      return cudaGetLastError();
    };
    CHECK(copy(host.data(), device.data(), cudaMemcpyDeviceToHost) == cudaSuccess);
    CHECK(copy(host.data(), device.data(), cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
    CHECK(copy(host.data(), host.data(), cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
    CHECK(copy(device.data(), device.data(), cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    cudaMemset(host.data(), 0, 16);
    CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  }

  TEST_CASE("a graph runs what was recorded, with what memory holds when it is replayed") {
    const Array<int> in(numbers(64)), out(std::vector<int>(64)), counts(std::vector<int>(64));
    cudaStream_t stream = nullptr;
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) == cudaSuccess);
    reverse(in.data(), out.data(), 1, 64, true, stream);
    count(counts.data(), 1, 64, stream);
    cudaMemsetAsync(in.data(), 0, 4, stream);
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    CHECK(counts.values()[9] == 0);  // recorded, not run
    size_t nodes = 0;
    cudaGraphGetNodes(graph, nullptr, &nodes);
    CHECK(nodes == 3);
    cudaGraphExec_t executable = nullptr;
    REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
    CHECK(cudaGraphDestroy(graph) == cudaSuccess);
    CHECK(cudaGraphLaunch(executable, stream) == cudaSuccess);
    CHECK(out.values()[63] == 1);
    CHECK(cudaGraphLaunch(executable, stream) == cudaSuccess);
    CHECK(out.values()[63] == 0);
    CHECK(counts.values() == std::vector<int>(64, 2));
    CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
    CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  }

  TEST_CASE("a wait while a graph is recorded breaks it; events carry recording to other streams") {
    cudaStream_t first = nullptr, second = nullptr;
    cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
    cudaStreamBeginCapture(first, cudaStreamCaptureModeRelaxed);
    CHECK(cudaStreamSynchronize(first) == cudaErrorStreamCaptureUnsupported);
    cudaGraph_t graph = nullptr;
    CHECK(cudaStreamEndCapture(first, &graph) == cudaErrorStreamCaptureInvalidated);
    CHECK(graph == nullptr);
    cudaGetLastError();

    const Array<int> counts(std::vector<int>(8));
    cudaEvent_t event = nullptr;
    cudaEventCreate(&event);
    cudaStreamBeginCapture(first, cudaStreamCaptureModeRelaxed);
    cudaEventRecord(event, first);
    cudaStreamWaitEvent(second, event, 0);
    count(counts.data(), 1, 8, second);
    REQUIRE(cudaStreamEndCapture(first, &graph) == cudaSuccess);
    size_t nodes = 0;
    cudaGraphGetNodes(graph, nullptr, &nodes);
    CHECK(nodes == 1);
    count(counts.data(), 1, 8, second);  // no longer recorded
    CHECK(counts.values()[3] == 1);
    cudaGraphDestroy(graph);
    cudaEventDestroy(event);
    cudaStreamDestroy(first);
    cudaStreamDestroy(second);
  }
}
