// One block at a time, its threads on stacks of their own that take turns on one OS thread.
#pragma once

#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "contexts.h"
#include "emulated.h"
#include "shared_memory.h"

namespace emulated {

/// A stack on which threads of a block run, one after the other; a thread that waits keeps it.
struct Fiber {
  Context context;
  uint3 coordinates{};
  unsigned thread = 0;  // linear index in the block
  Fiber* next = nullptr;

  struct Copy {
    void* to;
    const void* from;
    size_t bytes, valid;
  };
  std::vector<Copy> copies;         // asynchronous ones that have not happened
  std::vector<size_t> group_sizes;  // of them, in the order of commits
};

/// First in, first out.
class FiberQueue {
 public:
  bool empty() const { return !first_; }
  unsigned size() const { return size_; }
  Fiber* first() const { return first_; }
  void push(Fiber* fiber);
  Fiber* pop();  // null if empty
  void append(FiberQueue& other);
  void clear() { *this = {}; }

 private:
  Fiber *first_ = nullptr, *last_ = nullptr;
  unsigned size_ = 0;
};

/// An exchange between the lanes of a warp. Two buffers: a lane may read one while others post to
/// the next.
struct Warp {
  unsigned alive = 0;
  FiberQueue waiting;
  std::source_location place;  // where they wait
  size_t bytes = 0;
  detail::Combine combine = nullptr;
  int buffer = 0;
  alignas(64) unsigned char slots[2][32 * detail::kMostExchanged];
  alignas(64) unsigned char results[2][32 * detail::kMostExchanged];  // of `combine`
};

struct Grid {
  dim3 blocks, threads;
  size_t shared;
  const std::function<void()>* kernel;
};

/// Thrown away with the OS thread.
class Multiprocessor {
 public:
  static Multiprocessor& mine();
  /// The same while a kernel runs, null otherwise.
  static Multiprocessor* busy();

  /// All blocks in turn. What went wrong, or nothing; the blocks after the one that failed do not
  /// run.
  std::string run(const Grid& grid);

  // Called by running threads.
  Fiber& running() { return *running_; }
  SharedMemory& shared() { return shared_; }
  bool copies_at_once() const { return backwards_; }
  void synchronize_block(std::source_location place);
  const unsigned char* exchange(const void* mine, size_t bytes, std::source_location place,
                                detail::Combine combine);
  [[noreturn]] void fail(const std::string& what);

 private:
  std::string run_block(const Grid& grid, uint3 block);
  static void fiber_main();
  void run_threads();
  void run_thread();
  void retire();
  void pass_on();
  Fiber* fresh_fiber();
  void enter(Fiber* fiber, Context& from);
  void release(Warp& warp);
  [[noreturn]] void fail_stuck();
  void forget_fibers();

  SharedMemory shared_;
  Context host_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Warp> warps_;
  FiberQueue idle_, ready_, at_barrier_;
  std::source_location barrier_;  // where those at_barrier_ wait
  Fiber* running_ = nullptr;
  const Grid* grid_ = nullptr;
  unsigned count_ = 0, started_ = 0, alive_ = 0;
  bool backwards_ = false;  // whether the last thread of the block starts first
  std::string error_;
};

}  // namespace emulated
