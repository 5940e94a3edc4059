// Training goes on while a checkpoint is written.
//
//   StateDict snapshot = ...;                       // clones: training changes the originals
//   background.submit([=] { write_checkpoint(folder, snapshot); });
#pragma once

#include <functional>
#include <future>

#include <tendril/core/api.h>

namespace tendril {

/// Runs one job at a time on a thread of its own. To be used by one thread. Operations inside a job
/// use that one thread: the others belong to training.
class TENDRIL_API BackgroundWriter {
 public:
  BackgroundWriter() = default;
  /// Waits. The error of a job that nobody waited for goes to the log.
  ~BackgroundWriter();
  BackgroundWriter(const BackgroundWriter&) = delete;
  BackgroundWriter& operator=(const BackgroundWriter&) = delete;

  /// Waits for the job before, then starts this one and returns. Throws what the job before threw;
  /// `job` is dropped then, and the next submit() or wait() starts afresh.
  void submit(std::function<void()> job);
  /// Returns when no job runs; throws what the last one threw, once.
  void wait();

 private:
  std::future<void> running_;
};

}  // namespace tendril
