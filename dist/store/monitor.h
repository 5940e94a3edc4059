// Private to dist: the watch that ranks keep over each other, so that the end of one makes the
// others fail with a message that names it instead of waiting for ever.
//
// A thread on each rank tells the store every 200 ms what the rank does, and hears from it about
// failures. A rank fails when its connection ends without a goodbye, when it reports an Error, and
// when an operation takes longer than the timeout. Then, on every rank, `abort` is called with the
// reason, which makes operations fail; and a process that has not ended its Monitor `grace` later,
// because it hangs where nothing can reach it, is ended with the reason as its last message.
//
//   monitor = start_monitor({.rank = r, .size = n, .exchange = broadcast_of_mpi,
//                            .abort = [](const std::string& reason) { ... }});
//   monitor->enter("all_reduce 17 in step 3", 17);    // before an operation that may block
//   monitor->leave();                                 // after it
//
// One that fails itself calls report(). What is reported costs a lock and a copy of the label.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <tendril/dist/store/rank_status.h>
#include <tendril/dist/store/store.h>
#include <tendril/dist/store/store_server.h>

namespace tendril::dist {

class Monitor;

struct MonitorOptions {
  int rank = 0, size = 1;
  /// Where rank 0 serves the store. Not needed with `exchange`.
  StoreAddress address{};
  /// Returns rank 0's text on all ranks (a broadcast); called once on each, by start_monitor().
  /// Rank 0 then serves at any free port, which the text names.
  std::function<std::string(const std::string&)> exchange{};
  std::chrono::milliseconds timeout{30 * 60'000};  // of one operation
  std::chrono::milliseconds grace{10'000};         // after a failure
  std::chrono::milliseconds tick{200};             // between reports
  /// Called once, by a thread of its own, when a rank has failed: "rank 2 (host a, pid 7) has
  /// ended; ...". Operations fail with "[op] " before it.
  std::function<void(const std::string& reason)> abort{};
  /// Called by the monitor's thread at each tick: an engine looks after its operations here. An
  /// Error that it throws is reported.
  std::function<void(Monitor& monitor)> poll{};
  /// What happens after `grace`. Default: the message goes to the log and the process ends.
  std::function<void(const std::string& message)> end_process{};
};

class TENDRIL_API Monitor {
 public:
  explicit Monitor(MonitorOptions options);
  /// Says goodbye: the others take no notice. Rank 0 waits up to `grace` for the others to leave.
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  void enter(std::string label, int64_t number = -1, std::vector<int> ranks = {});
  void leave();
  /// For engines whose operations run by themselves.
  void set_activity(Activity activity);

  /// This rank cannot go on: all ranks, this one too, hear "rank 2 (host a, pid 7) failed: ...".
  void report(const std::string& what);
  /// Why the job has failed; empty as long as it has not.
  std::string failure() const;

  /// One more connection to the store, for an engine's own use.
  std::unique_ptr<Store> connect() const;

 private:
  void run();
  void watch(Store& store);
  void tell(Store& store);
  void send_report(Store& store);
  void look_for_timeout(Store& store);
  void fail(const std::string& reason);
  bool is_stopping() const;
  Activity activity() const;
  std::string rank_zero_is_gone() const;

  const MonitorOptions options_;
  std::unique_ptr<StoreServer> server_;  // on rank 0
  StoreAddress address_;                 // as this rank reaches it
  std::unique_ptr<Store> store_;         // of the thread; others only interrupt it

  // The thread's own.
  int ticks_ = 0;
  std::string told_;
  bool has_timed_out_ = false;
  RankStatus rank_zero_;

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  Activity activity_;
  std::string report_, failure_;
  bool has_reported_ = false, is_stopping_ = false;
  std::thread thread_;
};

TENDRIL_API std::shared_ptr<Monitor> start_monitor(MonitorOptions options);

}  // namespace tendril::dist
