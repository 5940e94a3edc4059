// Private to dist: a thread that does what it is given, one thing after the other. A group and all
// that split() makes of it share one, so that their operations run in the order of their calls.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include <tendril/dist/process_group.h>

namespace tendril::dist {

class HostQueue {
 public:
  HostQueue() : thread_([this] { run(); }) {}
  /// Does what is left. Not to be called by a job.
  ~HostQueue();
  HostQueue(const HostQueue&) = delete;
  HostQueue& operator=(const HostQueue&) = delete;

  /// What the job throws is thrown by the Work's wait(). A job that is done is destroyed first.
  Work post(std::function<void()> job);

 private:
  class Operation;
  struct Entry {
    std::function<void()> job;
    std::shared_ptr<Operation> operation;
  };
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Entry> entries_;
  bool ending_ = false;
  std::thread thread_;  // last, so that all else is there when it starts
};

}  // namespace tendril::dist
