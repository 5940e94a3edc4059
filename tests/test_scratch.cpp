// Working memory of threads: scopes that nest, of any size, and no request to the system once every
// thread has worked.
#include <doctest/doctest.h>
#include <tendril/core/allocator.h>
#include <tendril/core/cpu/scratch.h>
#include <tendril/core/threads.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

using namespace tendril;
using cpu::Scratch;

namespace {

constexpr int64_t kMiB = 1 << 20;

bool holds(const Scratch& memory, int64_t bytes, char value) {
  return std::all_of(memory.data(), memory.data() + bytes, [=](char c) { return c == value; });
}

// Takes three nested scratches of these sizes, fills them, and tells whether all kept what was
// written.
bool nest(int64_t first, int64_t second, int64_t third, char value) {
  const Scratch a(first);
  std::fill_n(a.data(), first, value);
  const Scratch b(second);
  std::fill_n(b.data(), second, static_cast<char>(value + 1));
  {
    const Scratch c(third);
    std::fill_n(c.data(), third, static_cast<char>(value + 2));
    if (!holds(c, third, static_cast<char>(value + 2))) return false;
  }
  const Scratch again(third);
  std::fill_n(again.data(), third, static_cast<char>(value + 3));
  return holds(a, first, value) && holds(b, second, static_cast<char>(value + 1)) &&
         reinterpret_cast<uintptr_t>(again.data()) % 64 == 0;
}

}  // namespace

TEST_SUITE("scratch") {
  TEST_CASE("nested memory does not overlap, in the piece and beyond it") {
    CHECK(nest(100, 1, 5000, 1));
    CHECK(nest(kMiB / 2, kMiB / 2, 100, 1));
    CHECK(nest(kMiB / 2, 3 * kMiB, kMiB / 2 + 1, 1));
    CHECK(nest(2 * kMiB, 100, kMiB, 1));
    const int64_t held = memory_stats().current_bytes;
    CHECK(nest(2 * kMiB, 2 * kMiB, 2 * kMiB, 1));
    CHECK(memory_stats().current_bytes == held);
  }

  TEST_CASE("threads ask the system only while they work for the first time") {
    const int before = num_threads();
    set_num_threads(3);
    std::atomic<int> wrong{0};
    const auto work = [&] {
      parallel_for(6, 1, [&](int64_t begin, int64_t) {
        const int64_t more = begin % 2 * kMiB;  // each thread meets both sizes
        if (!nest(kMiB / 2, 2 * kMiB + more, kMiB + more, static_cast<char>(8 * begin))) ++wrong;
      });
    };
    work();
    const MemoryStats settled = memory_stats();
    for (int i = 0; i < 50; ++i) work();
    CHECK(memory_stats().system_allocations == settled.system_allocations);
    CHECK(memory_stats().allocations == settled.allocations);  // nothing shared is taken
    CHECK(wrong == 0);
    set_num_threads(before);
  }
}
