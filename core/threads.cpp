#include <tendril/core/threads.h>

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include <tendril/core/error.h>

namespace tendril {
namespace {
std::atomic<int> thread_count{0};  // 0: not set, ask OpenMP
}  // namespace

int num_threads() {
  const int count = thread_count.load(std::memory_order_relaxed);
  return count > 0 ? count : omp_get_max_threads();
}

void set_num_threads(int count) {
  TENDRIL_CHECK(count >= 1, "[set_num_threads] needs at least one thread; got ", count);
  thread_count.store(count, std::memory_order_relaxed);
}

namespace detail {

bool in_parallel() { return omp_in_parallel(); }

void parallel_chunks(int64_t count, int64_t chunk, ChunkBody body) {
  if (count <= 0) return;
  chunk = std::clamp<int64_t>(chunk, 1, count);
  const int64_t chunks = (count - 1) / chunk + 1;
  const int threads = num_threads();
  const auto run = [&](int64_t i) {
    body(i * chunk, i * chunk + std::min(chunk, count - i * chunk));
  };
  if (threads <= 1 || chunks <= 1 || in_parallel()) {
    for (int64_t i = 0; i < chunks; ++i) run(i);
    return;
  }
  // Always the whole team, though few chunks leave some of it idle: threads that a smaller team has
  // no use for end in GCC's runtime, and the next region would have to start new ones.
  std::exception_ptr error;
  std::mutex error_mutex;
  std::atomic<bool> stop{false};
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < chunks; ++i) {
    if (stop.load(std::memory_order_relaxed)) continue;
    try {
      run(i);
    } catch (...) {
      const std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
      stop = true;
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace detail
}  // namespace tendril
