// The caching allocator and the threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include <tendril/core/tensor.h>
#include <tendril/core/threads.h>

#include "file_tools.h"

using namespace tendril;
using namespace tendril::testing;

TEST_SUITE_BEGIN("memory");

TEST_CASE("statistics follow tensors; freed blocks are reused") {
  empty_cache();
  reset_peak_memory_stats();
  const MemoryStats start = memory_stats();
  CHECK(start.peak_bytes == start.current_bytes);
  CHECK(start.reserved_bytes == start.current_bytes);
  const int64_t bytes = 1 << 20;
  const void* data;
  {
    const Tensor x = Tensor::empty({bytes}, u8);
    data = x.raw_data();
    CHECK(reinterpret_cast<uintptr_t>(data) % 64 == 0);
    const Tensor view = Tensor::view(x.storage(), 0, {1}, {1}, u8);  // costs nothing
    const MemoryStats stats = memory_stats();
    CHECK(stats.current_bytes == start.current_bytes + bytes);
    CHECK(stats.peak_bytes == start.peak_bytes + bytes);
    CHECK(stats.allocations == start.allocations + 1);
    CHECK(stats.system_allocations == start.system_allocations + 1);
  }
  MemoryStats stats = memory_stats();
  CHECK(stats.current_bytes == start.current_bytes);
  CHECK(stats.peak_bytes == start.peak_bytes + bytes);
  CHECK(stats.reserved_bytes == start.reserved_bytes + bytes);  // kept
  {
    const Tensor again = Tensor::empty({bytes - 100}, u8);  // rounds to the same block
    CHECK(again.raw_data() == data);
    CHECK(memory_stats().allocations == start.allocations + 2);
    CHECK(memory_stats().system_allocations == start.system_allocations + 1);
  }
  reset_peak_memory_stats();
  CHECK(memory_stats().peak_bytes == start.current_bytes);
  empty_cache();
  stats = memory_stats();
  CHECK(stats.reserved_bytes == stats.current_bytes);
}

TEST_CASE("a steady pattern of allocations asks the system for nothing") {
  const auto step = [] {
    std::vector<Tensor> tensors;
    for (const int64_t size : {100, 5000, 100, 70'000, 1}) tensors.push_back(Tensor::empty({size}));
  };
  step();
  const MemoryStats before = memory_stats();
  for (int i = 0; i < 50; ++i) step();
  CHECK(memory_stats().system_allocations == before.system_allocations);
  CHECK(memory_stats().reserved_bytes == before.reserved_bytes);
  CHECK(memory_stats().allocations == before.allocations + 250);
}

TEST_CASE("memory that stays is not taken from what a step works in") {
  empty_cache();
  constexpr int64_t kSize = 5000;
  Tensor::empty({kSize});  // leaves a block in the cache
  const int64_t before = memory_stats().system_allocations;
  Tensor state;
  {
    const LastingMemoryScope lasting;
    state = Tensor::empty({kSize});
    CHECK(memory_stats().system_allocations == before + 1);
  }
  const Tensor again = Tensor::empty({kSize});
  CHECK(memory_stats().system_allocations == before + 1);
}

TEST_CASE("rounding wastes at most an eighth") {
  for (const int64_t bytes : {1, 64, 65, 512, 513, 1000, 4097, 100'001, 1'048'577}) {
    const int64_t before = memory_stats().current_bytes;
    const auto storage = Storage::allocate(bytes, Device::cpu());
    const int64_t block = memory_stats().current_bytes - before;
    CAPTURE(bytes);
    CHECK(storage->bytes() == bytes);
    CHECK(block >= bytes);
    CHECK(block <= bytes + std::max<int64_t>(bytes / 8, 63));
    CHECK(block % 64 == 0);
  }
}

TEST_CASE("impossible sizes are errors") {
  CHECK(contains_text(error_of([] { Storage::allocate(-1, Device::cpu()); }), "cannot allocate"));
  CHECK(contains_text(error_of([] { Storage::allocate(int64_t{1} << 60, Device::cpu()); }),
                      "cannot allocate"));
#ifndef __SANITIZE_ADDRESS__  // AddressSanitizer ends the process instead of returning null
#ifndef __SANITIZE_THREAD__
  const int64_t before = memory_stats().current_bytes;
  CHECK(contains_text(error_of([] { Tensor::empty({int64_t{1} << 57}); }), "out of memory on cpu"));
  CHECK(memory_stats().current_bytes == before);
#endif
#endif
}

TEST_CASE("foreign memory is not counted") {
  std::vector<float> values(1000);
  const int64_t before = memory_stats().current_bytes;
  const Tensor x = Tensor::external(values.data(), {1000});
  CHECK(memory_stats().current_bytes == before);
}

TEST_CASE("threads may allocate and free at the same time") {
  const int64_t before = memory_stats().current_bytes;
  std::atomic<int> corrupted{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        const Tensor x = Tensor::empty({1000 + i % 3 * 1000}, u8);
        std::memset(x.raw_data(), t, static_cast<size_t>(x.nbytes()));
        for (const uint8_t byte : x.span<uint8_t>()) corrupted += byte != t;
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(corrupted == 0);
  CHECK(memory_stats().current_bytes == before);
}

TEST_SUITE_END();

namespace {

struct ThreadCount {  // restores the setting
  int before = num_threads();
  explicit ThreadCount(int count) { set_num_threads(count); }
  ~ThreadCount() { set_num_threads(before); }
};

std::vector<std::pair<int64_t, int64_t>> chunks_of(int64_t count, int64_t chunk) {
  std::vector<std::pair<int64_t, int64_t>> chunks;
  std::mutex mutex;
  parallel_for(count, chunk, [&](int64_t begin, int64_t end) {
    const std::lock_guard lock(mutex);
    chunks.emplace_back(begin, end);
  });
  std::sort(chunks.begin(), chunks.end());
  return chunks;
}

}  // namespace

TEST_SUITE_BEGIN("threads");

TEST_CASE("set_num_threads") {
  const ThreadCount restore(3);
  CHECK(num_threads() == 3);
  set_num_threads(1);
  CHECK(num_threads() == 1);
  CHECK(contains_text(error_of([] { set_num_threads(0); }), "at least one thread; got 0"));
  CHECK(contains_text(error_of([] { set_num_threads(-2); }), "at least one"));
  CHECK(num_threads() == 1);
}

TEST_CASE("chunk borders do not depend on the number of threads") {
  using Chunks = std::vector<std::pair<int64_t, int64_t>>;
  for (const int threads : {1, 2, 4, 7}) {
    const ThreadCount restore(threads);
    CHECK(chunks_of(10, 4) == Chunks{{0, 4}, {4, 8}, {8, 10}});
    CHECK(chunks_of(8, 4) == Chunks{{0, 4}, {4, 8}});
    CHECK(chunks_of(3, 100) == Chunks{{0, 3}});
    CHECK(chunks_of(3, std::numeric_limits<int64_t>::max()) == Chunks{{0, 3}});
    CHECK(chunks_of(2, 0) == Chunks{{0, 1}, {1, 2}});
    CHECK(chunks_of(0, 4).empty());
    CHECK(chunks_of(-5, 4).empty());
  }
}

TEST_CASE("every index is visited exactly once") {
  const ThreadCount restore(4);
  std::vector<int> visits(100'003);
  parallel_for(100'003, 17, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
  });
  CHECK(std::count(visits.begin(), visits.end(), 1) == 100'003);
}

TEST_CASE("one thread means the calling thread") {
  const ThreadCount restore(1);
  const auto caller = std::this_thread::get_id();
  std::vector<std::thread::id> ids;
  parallel_for(10, 1, [&](int64_t, int64_t) { ids.push_back(std::this_thread::get_id()); });
  CHECK(ids == std::vector<std::thread::id>(10, caller));
}

TEST_CASE("work is spread over the threads that are allowed") {
  const ThreadCount restore(2);
  std::atomic<int> started{0}, met{0};
  parallel_for(2, 1,
               [&](int64_t, int64_t) {  // each waits for the other: a single thread would give up
                 ++started;
                 for (int i = 0; i < 2000 && started < 2; ++i)
                   std::this_thread::sleep_for(std::chrono::milliseconds(1));
                 met += started == 2;
               });
  CHECK(met == 2);
}

TEST_CASE("an exception in a chunk reaches the caller") {
  for (const int threads : {1, 4}) {
    const ThreadCount restore(threads);
    std::atomic<int> running{0};
    CHECK_THROWS_AS(parallel_for(1000, 1,
                                 [&](int64_t begin, int64_t) {
                                   ++running;
                                   if (begin == 500) {
                                     --running;
                                     throw Error("chunk");
                                   }
                                   --running;
                                 }),
                    Error);
    CHECK(running == 0);  // all chunks have stopped
    CHECK_THROWS_AS(parallel_for(8, 1, [](int64_t, int64_t) { throw std::runtime_error("all"); }),
                    std::runtime_error);
    CHECK(chunks_of(4, 2).size() == 2);  // and the next call works
  }
}

TEST_CASE("a nested call runs in the calling thread") {
  const ThreadCount restore(4);
  std::atomic<int> moved{0}, inner{0};
  parallel_for(8, 1, [&](int64_t, int64_t) {
    const auto outer = std::this_thread::get_id();
    parallel_for(5, 1, [&](int64_t, int64_t) {
      moved += std::this_thread::get_id() != outer;
      ++inner;
    });
  });
  CHECK(moved == 0);
  CHECK(inner == 40);
}

TEST_SUITE_END();
