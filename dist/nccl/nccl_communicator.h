// Private to dist: one NCCL communicator, without NCCL's types.
//
// It does not block: what NCCL does in the background is waited for here, in short looks at its
// state. So another thread can abort it at any moment, also while connections are being made to a
// rank that will never answer.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

struct ncclComm;

namespace tendril::dist {

class NcclCommunicator {
 public:
  /// A name for a new communicator, to be handed from one rank to all others.
  static std::string make_id();

  /// Collective; the calling thread's current GPU is the rank's. `check` throws when the job has
  /// failed; it is called again and again by whatever waits.
  NcclCommunicator(const std::string& id, int rank, int size, std::function<void()> check);
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  /// Makes calls to NCCL as one group, so that they move together and cannot wait for each other;
  /// returns when they are queued on the stream that they name.
  void group(const std::function<void(ncclComm* comm)>& calls);
  /// Collective; ranks of the same color (>= 0) get together, in the order of `key`.
  std::unique_ptr<NcclCommunicator> split(int color, int key);

  /// Collective, the last call: waits for what was started, unless it was aborted.
  void close() noexcept;

  /// Error when an operation has failed in the background. By any thread.
  void check_health();
  /// By any thread: kernels end, what waits here fails. Gives up when a call to NCCL does not
  /// return.
  void abort() noexcept;

 private:
  explicit NcclCommunicator(std::function<void()> check) : check_(std::move(check)) {}
  void settle(const char* what);
  ncclComm* alive() const;

  std::function<void()> check_;
  std::timed_mutex mutex_;    // around every call of NCCL, none of which takes long
  ncclComm* comm_ = nullptr;  // null once it was aborted
};

/// Throws an Error that names `what` unless the result (an ncclResult_t) is success or "in
/// progress".
void check_nccl(int result, const char* what);

}  // namespace tendril::dist
