#include <tendril/trainer/data/prefetcher.h>

#include <utility>

#include <tendril/autograd/tape.h>
#include <tendril/core/threads.h>

namespace tendril {

BatchStream::~BatchStream() = default;

std::optional<Batch> DirectStream::next() {
  if (error_) std::rethrow_exception(error_);
  try {
    const NoGradGuard no_grad;
    std::optional<Batch> batch = make_(number_, never_stop_);
    if (batch) ++number_;  // the end stays the end
    return batch;
  } catch (...) {
    error_ = std::current_exception();
    throw;
  }
}

Prefetcher::Prefetcher(BatchMaker make, int64_t first, int64_t window,
                       std::shared_ptr<WorkerThreads> threads)
    : make_(std::move(make)),
      threads_(std::move(threads)),
      slots_(static_cast<size_t>(window)),
      next_made_(first),
      next_taken_(first) {
  threads_->start([this] { work(); });
}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  room_.notify_all();
  threads_->wait();
}

Prefetcher::Slot Prefetcher::make(int64_t number) const {
  try {
    return {true, make_(number, stop_), nullptr};
  } catch (...) {
    return {true, std::nullopt, std::current_exception()};
  }
}

void Prefetcher::work() {
  const NoGradGuard no_grad;
  const SerialScope serial;  // the threads that train need the cores; no team per loader thread
  std::unique_lock lock(mutex_);
  while (true) {
    room_.wait(lock, [&] {
      return stop_ || closed_ || next_made_ - next_taken_ < static_cast<int64_t>(slots_.size());
    });
    if (stop_ || closed_) return;
    const int64_t number = next_made_++;
    lock.unlock();
    Slot made = make(number);
    lock.lock();
    if (!made.batch && !closed_) {
      closed_ = true;
      room_.notify_all();
    }
    slot_of(number) = std::move(made);
    ready_.notify_one();
  }
}

std::optional<Batch> Prefetcher::next() {
  if (!last_.ready) {
    Slot taken;
    {
      std::unique_lock lock(mutex_);
      Slot& slot = slot_of(next_taken_);
      ready_.wait(lock, [&] { return slot.ready; });
      taken = std::exchange(slot, {});
      ++next_taken_;
    }
    room_.notify_one();
    if (taken.batch) return std::move(taken.batch);
    last_ = std::move(taken);
  }
  if (last_.error) std::rethrow_exception(last_.error);
  return std::nullopt;
}

}  // namespace tendril
