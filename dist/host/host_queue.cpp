#include <tendril/dist/host/host_queue.h>

#include <optional>

#include <tendril/dist/work_state.h>

namespace tendril::dist {

// The message is kept, not the exception: every wait() throws one of its own, in its thread.
class HostQueue::Operation final : public Work::State {
 public:
  void finish(std::optional<std::string> error) {
    const std::lock_guard lock(mutex_);
    done_ = true;
    error_ = std::move(error);
    changed_.notify_all();
  }
  void wait() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
    if (error_) throw Error(*error_);
  }
  bool is_done() override {
    const std::lock_guard lock(mutex_);
    return done_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::optional<std::string> error_;
};

HostQueue::~HostQueue() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

Work HostQueue::post(std::function<void()> job) {
  auto operation = std::make_shared<Operation>();
  {
    const std::lock_guard lock(mutex_);
    entries_.push_back({std::move(job), operation});
    changed_.notify_all();
  }
  return Work(std::move(operation));
}

void HostQueue::run() {
  for (;;) {
    Entry entry;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return ending_ || !entries_.empty(); });
      if (entries_.empty()) return;
      entry = std::move(entries_.front());
      entries_.pop_front();
    }
    std::optional<std::string> error;
    try {
      entry.job();
    } catch (const std::exception& exception) {
      error = exception.what();
    }
    entry.job = nullptr;
    entry.operation->finish(std::move(error));
  }
}

}  // namespace tendril::dist
