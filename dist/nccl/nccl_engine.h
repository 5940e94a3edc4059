// Private to dist: what a NCCL group and all that split() made of it share: the GPU, the stream on
// which their operations run one after the other, and the watch over them.
//
// An operation waits for what the calling thread's current stream was doing, and Work::wait() lets
// that stream wait for the operation; the host goes on meanwhile. Where numbers must be on the
// host, it waits as well, and stops waiting when the job fails.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <tendril/core/cuda.h>
#include <tendril/dist/nccl/nccl_communicator.h>
#include <tendril/dist/process_group.h>
#include <tendril/dist/store/monitor.h>

namespace tendril::dist {

/// A mark in a stream's work: a cudaEvent_t.
using NcclEvent = std::shared_ptr<void>;

struct NcclOperation {
  std::string label;       // "all_reduce 17 in step 3"
  int64_t number = -1;     // of a collective in its group
  std::vector<int> ranks;  // that take part, among all; empty for all
  /// Kept until the operation is done.
  std::vector<Tensor> tensors;
  /// Host tensors and what stands for them on the GPU: copied back by wait().
  std::vector<std::pair<Tensor, Tensor>> results;
  bool blocks_host = false;  // wait() returns when the operation is done, not when it is queued
};

class NcclEngine : public std::enable_shared_from_this<NcclEngine> {
 public:
  explicit NcclEngine(Device device);
  /// Goodbye: the last communicator has gone.
  ~NcclEngine();
  NcclEngine(const NcclEngine&) = delete;
  NcclEngine& operator=(const NcclEngine&) = delete;

  /// `options`: all but abort and poll.
  void start_monitor(MonitorOptions options);
  Monitor& monitor() { return *monitor_; }

  Device device() const { return device_; }
  const cuda::Stream& stream() const { return stream_; }
  /// Watched, and aborted when the job fails, until it is removed.
  void add(NcclCommunicator& communicator);
  void remove(NcclCommunicator& communicator);
  size_t communicator_count();

  /// Queues work: `body` runs with stream() as the current one, behind what was current before.
  Work run(NcclOperation operation, const std::function<void()>& body);
  /// Throws "[label] why" when the job has failed.
  void check(const std::string& label) const;
  bool has_failed() const { return !monitor_->failure().empty(); }

 private:
  class Pending;
  struct Running {
    std::string label;
    int64_t number;
    std::vector<int> ranks;
    NcclEvent done;
  };
  void abort_communicators();
  void look_after_operations(Monitor& monitor);
  void tell_activity(Monitor& monitor);

  const Device device_;
  const cuda::Stream stream_;

  std::mutex communicators_mutex_;
  std::vector<NcclCommunicator*> communicators_;

  std::mutex mutex_;  // of what follows
  std::deque<Running> running_;
  Activity activity_;

  std::shared_ptr<Monitor> monitor_;  // last: its thread uses all else
};

}  // namespace tendril::dist
