// Batches made ahead by threads and handed out in order.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include <tendril/trainer/data/data_loader.h>
#include <tendril/trainer/data/worker_threads.h>

namespace tendril {

/// Makes batch `number` of a pass; nullopt after the last one. Threads call it at the same time,
/// with numbers that they draw in rising order. When `stop` turns true nobody wants the result any
/// more: it may return at once, whatever.
using BatchMaker =
    std::function<std::optional<Batch>(int64_t number, const std::atomic<bool>& stop)>;

/// Makes each batch when it is asked for, in the calling thread. After an error next() throws the
/// same error again: a caller that goes on must not skip data unknowingly.
class DirectStream : public BatchStream {
 public:
  DirectStream(BatchMaker make, int64_t first) : make_(std::move(make)), number_(first) {}
  std::optional<Batch> next() override;

 private:
  BatchMaker make_;
  int64_t number_;
  std::exception_ptr error_;
  std::atomic<bool> never_stop_{false};
};

/// The same batches, at most `window` of them ahead of the caller, counting those in work.
class Prefetcher : public BatchStream {
 public:
  Prefetcher(BatchMaker make, int64_t first, int64_t window,
             std::shared_ptr<WorkerThreads> threads);
  /// Waits for the calls of the maker that are under way.
  ~Prefetcher() override;
  std::optional<Batch> next() override;

 private:
  struct Slot {
    bool ready = false;
    std::optional<Batch> batch;  // none: the end, or an error
    std::exception_ptr error;
  };
  void work();
  Slot make(int64_t number) const;
  Slot& slot_of(int64_t number) { return slots_[static_cast<size_t>(number) % slots_.size()]; }

  BatchMaker make_;
  std::shared_ptr<WorkerThreads> threads_;
  std::atomic<bool> stop_{false};

  std::mutex mutex_;  // for all that follows, but the caller's own last_
  std::condition_variable ready_, room_;
  std::vector<Slot> slots_;  // batch k waits in slot k mod window
  int64_t next_made_, next_taken_;
  bool closed_ = false;  // an end or an error was found: later batches are of no use

  Slot last_;  // the slot at which the stream ended
};

}  // namespace tendril
