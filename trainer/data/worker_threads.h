// A fixed number of threads that run one function together, again and again.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include <tendril/core/api.h>

namespace tendril {

class WorkerThreads {
 public:
  /// Error when the system gives no more threads.
  explicit WorkerThreads(int64_t count);
  /// Waits for the function to return in all threads.
  ~WorkerThreads();
  WorkerThreads(const WorkerThreads&) = delete;
  WorkerThreads& operator=(const WorkerThreads&) = delete;

  /// Every thread calls `body` once; it must not throw. Only after wait() for the one before.
  void start(std::function<void()> body);
  /// Until all threads have returned from it.
  void wait();

 private:
  void serve();
  void close();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> body_;
  uint64_t round_ = 0;   // how often start() was called
  int64_t running_ = 0;  // threads that have not finished this round
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tendril
