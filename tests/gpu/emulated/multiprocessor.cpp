#include "multiprocessor.h"

#include <cstring>

constinit thread_local uint3 threadIdx{}, blockIdx{};
constinit thread_local dim3 blockDim{}, gridDim{};

namespace emulated {
namespace {

bool same(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

std::string text(const std::source_location& place) {
  return std::string(place.file_name()) + ":" + std::to_string(place.line());
}

std::string text(const uint3& x) {
  return "(" + std::to_string(x.x) + ", " + std::to_string(x.y) + ", " + std::to_string(x.z) + ")";
}

uint3 coordinates_of(unsigned linear, const dim3& size) {
  return {linear % size.x, linear / size.x % size.y, linear / size.x / size.y};
}

}  // namespace

// ---------------------------------------------------------------- queues

void FiberQueue::push(Fiber* fiber) {
  fiber->next = nullptr;
  (last_ ? last_->next : first_) = fiber;
  last_ = fiber;
  ++size_;
}

Fiber* FiberQueue::pop() {
  Fiber* fiber = first_;
  if (!fiber) return nullptr;
  first_ = fiber->next;
  if (!first_) last_ = nullptr;
  --size_;
  return fiber;
}

void FiberQueue::append(FiberQueue& other) {
  if (other.empty()) return;
  (last_ ? last_->next : first_) = other.first_;
  last_ = other.last_;
  size_ += other.size_;
  other.clear();
}

// ---------------------------------------------------------------- grids and blocks

namespace {
constinit thread_local Multiprocessor* busy_one = nullptr;
}

Multiprocessor& Multiprocessor::mine() {
  static thread_local Multiprocessor multiprocessor;
  return multiprocessor;
}

Multiprocessor* Multiprocessor::busy() { return busy_one; }

std::string Multiprocessor::run(const Grid& grid) {
  if (busy_one) return "a kernel launched a kernel";
  for (uint3 block{}; block.z < grid.blocks.z; ++block.z)
    for (block.y = 0; block.y < grid.blocks.y; ++block.y)
      for (block.x = 0; block.x < grid.blocks.x; ++block.x)
        if (std::string error = run_block(grid, block); !error.empty())
          return error + ", in block " + text(block);
  return {};
}

std::string Multiprocessor::run_block(const Grid& grid, uint3 block) {
  grid_ = &grid;
  blockIdx = block;
  blockDim = grid.threads;
  gridDim = grid.blocks;
  count_ = alive_ = grid.threads.x * grid.threads.y * grid.threads.z;
  started_ = 0;
  // The order in which threads run is nobody's business. Every second block runs the other way
  // round, so that a barrier that is missing shows in one of them.
  backwards_ = !backwards_;
  error_.clear();
  const size_t warps = (count_ + 31) / 32;
  if (warps_.size() < warps) warps_.resize(warps);
  for (unsigned w = 0; w < warps; ++w) warps_[w].alive = w + 1 < warps ? 32 : count_ - 32 * w;
  shared_.begin_block(grid.shared);
  busy_one = this;
  enter(fresh_fiber(), host_);
  busy_one = nullptr;
  if (!error_.empty()) forget_fibers();
  const std::string overrun = shared_.end_block();
  return error_.empty() ? overrun : error_;
}

void Multiprocessor::forget_fibers() {
  idle_.clear(), ready_.clear(), at_barrier_.clear();
  for (Warp& warp : warps_) warp.waiting.clear();
  for (size_t i = 0; i < fibers_.size(); ++i) {
    Fiber& fiber = *fibers_[i];
    fiber.context.prepare(fiber_main, i);
    fiber.copies.clear(), fiber.group_sizes.clear();
    idle_.push(&fiber);
  }
}

// ---------------------------------------------------------------- threads taking turns

Fiber* Multiprocessor::fresh_fiber() {
  if (Fiber* idle = idle_.pop()) return idle;
  fibers_.push_back(std::make_unique<Fiber>());
  fibers_.back()->context.prepare(fiber_main, fibers_.size());
  return fibers_.back().get();
}

void Multiprocessor::enter(Fiber* fiber, Context& from) {
  running_ = fiber;
  threadIdx = fiber->coordinates;
  Context::switch_to(from, fiber->context);
}

namespace {
struct Stopped {};  // thrown through a thread that failed, so that what it holds is destroyed
}  // namespace

void Multiprocessor::fiber_main() {
  Context::entered();
  Multiprocessor& on = mine();
  try {
    on.run_threads();
  } catch (const Stopped&) {
  } catch (const std::exception& error) {
    on.error_ = std::string("a kernel threw: ") + error.what();
  }
  // The other threads of the block never go on; their stacks are forgotten.
  Context::switch_to(on.running_->context, on.host_);
}

// Threads that start while nothing is ready run one after the other on the same stack: kernels
// without barriers never switch.
void Multiprocessor::run_threads() {
  for (;;) {
    while (ready_.empty() && started_ < count_) run_thread();
    Fiber* self = running_;
    idle_.push(self);
    if (alive_ > 0)
      pass_on();
    else
      Context::switch_to(self->context, host_);
  }
}

void Multiprocessor::run_thread() {
  Fiber& fiber = *running_;
  fiber.thread = backwards_ ? count_ - 1 - started_ : started_;
  ++started_;
  threadIdx = fiber.coordinates = coordinates_of(fiber.thread, grid_->threads);
  (*grid_->kernel)();
  retire();
}

void Multiprocessor::retire() {
  if (!running_->copies.empty()) fail("returned without waiting for its asynchronous copies");
  running_->group_sizes.clear();
  --alive_;
  if (!at_barrier_.empty())
    fail("returned while other threads of the block wait in __syncthreads at " + text(barrier_));
  Warp& warp = warps_[running_->thread / 32];
  --warp.alive;
  if (!warp.waiting.empty())  // nothing was posted for this lane
    std::memset(warp.slots[warp.buffer] + running_->thread % 32 * warp.bytes, 0, warp.bytes);
  if (!warp.waiting.empty() && warp.waiting.size() == warp.alive) release(warp);
}

// Leaves the running thread, which some queue holds, for another.
void Multiprocessor::pass_on() {
  Fiber* self = running_;
  Fiber* next = ready_.pop();
  if (!next && started_ < count_) next = fresh_fiber();
  if (!next) fail_stuck();
  if (next == self) return;
  enter(next, self->context);
}

void Multiprocessor::fail(const std::string& what) {
  error_ = "thread " + text(running_->coordinates) + " " + what;
  throw Stopped{};
}

void Multiprocessor::fail_stuck() {
  std::string waits;
  for (const Warp& warp : warps_) {
    if (warp.waiting.empty()) continue;
    waits = std::to_string(warp.waiting.size()) + " of " + std::to_string(warp.alive) +
            " lanes of a warp wait at " + text(warp.place);
    break;
  }
  if (!at_barrier_.empty())
    waits += (waits.empty() ? "" : ", ") + std::to_string(at_barrier_.size()) +
             " threads wait in __syncthreads at " + text(barrier_);
  fail("was the last that could go on: " + waits);
}

// ---------------------------------------------------------------- waiting

void Multiprocessor::synchronize_block(std::source_location place) {
  if (alive_ != count_)
    fail("came to __syncthreads at " + text(place) + " after a thread of the block has returned");
  if (at_barrier_.empty())
    barrier_ = place;
  else if (!same(barrier_, place))
    fail("came to __syncthreads at " + text(place) + " while others wait in the one at " +
         text(barrier_));
  if (at_barrier_.size() + 1 == count_) {
    ready_.append(at_barrier_);
    return;
  }
  at_barrier_.push(running_);
  pass_on();
}

void Multiprocessor::release(Warp& warp) {
  if (warp.combine) warp.combine(warp.slots[warp.buffer], warp.results[warp.buffer]);
  warp.buffer ^= 1;
  ready_.append(warp.waiting);
}

const unsigned char* Multiprocessor::exchange(const void* mine, size_t bytes,
                                              std::source_location place, detail::Combine combine) {
  Warp& warp = warps_[running_->thread / 32];
  unsigned char* slots = warp.slots[warp.buffer];
  const unsigned char* outcome = combine ? warp.results[warp.buffer] : slots;
  if (warp.waiting.empty()) {
    warp.place = place;
    warp.bytes = bytes;
    warp.combine = combine;
    if (warp.alive < 32) std::memset(slots, 0, 32 * bytes);
  } else if (warp.bytes != bytes || !same(warp.place, place)) {
    fail("came to the operation of a warp at " + text(place) +
         " while other lanes wait in the one at " + text(warp.place));
  }
  std::memcpy(slots + running_->thread % 32 * bytes, mine, bytes);
  if (warp.waiting.size() + 1 == warp.alive) {
    release(warp);
    return outcome;
  }
  warp.waiting.push(running_);
  pass_on();
  return outcome;
}

}  // namespace emulated
