#include <tendril/trainer/data/worker_threads.h>

#include <system_error>
#include <utility>

#include <tendril/core/error.h>

namespace tendril {

WorkerThreads::WorkerThreads(int64_t count) {
  threads_.reserve(static_cast<size_t>(count));
  try {
    while (static_cast<int64_t>(threads_.size()) < count)
      threads_.emplace_back([this] { serve(); });
  } catch (const std::system_error& error) {
    close();  // a running thread must not be destroyed
    fail("[DataLoader] cannot start ", count, " loader threads: ", error.what(),
         "; use fewer num_workers");
  }
}

WorkerThreads::~WorkerThreads() { close(); }

void WorkerThreads::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void WorkerThreads::start(std::function<void()> body) {
  {
    const std::lock_guard lock(mutex_);
    TENDRIL_CHECK(running_ == 0, "[DataLoader] the loader threads are at work already");
    body_ = std::move(body);
    running_ = static_cast<int64_t>(threads_.size());
    ++round_;
  }
  changed_.notify_all();
}

void WorkerThreads::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return running_ == 0; });
}

void WorkerThreads::serve() {
  uint64_t served = 0;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return closing_ || round_ != served; });
    if (round_ == served) return;  // closing, and nothing is left to do
    served = round_;
    lock.unlock();
    body_();  // start() changes it only when all threads are done
    lock.lock();
    if (--running_ == 0) changed_.notify_all();
  }
}

}  // namespace tendril
