// Private to dist: the only place that calls MPI, without its types. Everything but abort() is
// called by one thread, the one that made the Runtime.
//
// Processes only send messages to each other, and every wait is a loop that looks at the clock and
// at what the others announce: nothing blocks inside of MPI, where nobody could say who is missing.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <tendril/dist/host/transport.h>

namespace tendril::dist::mpi {

/// Bytes that go to another rank of a communicator or come from it.
template <class Block>
struct Message {
  int peer;
  Block block;
};

class Runtime {
 public:
  using Communicator = size_t;
  static constexpr Communicator kWorld = 0;

  Runtime(std::chrono::milliseconds timeout, size_t max_message_bytes);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  int rank(Communicator communicator) const;
  int size(Communicator communicator) const;
  /// Returns when all messages have been moved. What one rank lists for another, that one lists as
  /// well, in the same order and with the same sizes. `label` names it in errors; messages with
  /// different tags (below 2^15) do not meet.
  void exchange(Communicator communicator, const std::string& label, int tag,
                const std::vector<Message<ConstBytes>>& sends,
                const std::vector<Message<Bytes>>& receives);
  /// Collective.
  Communicator split(Communicator communicator, int color);
  /// By any thread: all that is called from now on fails, on the other processes when they hear of
  /// it.
  void abort(const std::string& reason);

 private:
  struct Handles;  // MPI's
  struct Member;
  class Exchange;

  void start();
  void learn_hosts();
  void check(int code, const std::string& label, const std::string& what);
  void look_for_faults(const std::string& label);
  void announce(const std::string& reason);
  [[noreturn]] void fail_call(const std::string& label, const std::string& why);
  std::string where(const std::string& label) const;  // "[all_reduce 3] rank 1 on node7: "
  std::string named(Communicator communicator, const std::vector<int>& ranks) const;

  const std::chrono::milliseconds timeout_;
  const size_t max_message_bytes_;
  bool is_ours_ = false;  // MPI was started here
  std::unique_ptr<Handles> handles_;
  std::vector<std::string> hosts_;  // by rank
  std::mutex mutex_;                // of reason_
  std::atomic<bool> is_aborted_{false};
  std::string reason_;
  bool is_announced_ = false;
};

}  // namespace tendril::dist::mpi
