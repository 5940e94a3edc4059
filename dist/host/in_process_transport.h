// Private to dist: ranks that are threads of one process copy straight out of each other's memory.
//
// A call has two meetings: when all ranks have come, with what they offer, everyone copies; when
// all have copied, the offers may go. A rank that fails before the first meeting is complete keeps
// everyone from copying; between the two nothing fails, so that nobody copies from memory that is
// gone.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <tendril/dist/host/transport.h>
#include <tendril/dist/in_process.h>

namespace tendril::dist {

/// What all ranks of run_ranks() share: one lock, and why they were aborted.
struct InProcessHall {
  explicit InProcessHall(const InProcessOptions& options) : options(options) {}
  void abort(const std::string& why);  // the first reason counts

  const InProcessOptions options;
  std::mutex mutex;
  std::condition_variable changed;
  bool is_aborted = false;
  std::string reason;
};

/// What the ranks of one group share.
struct InProcessTable {
  using Offer = std::vector<std::vector<ConstBytes>>;  // for each rank
  struct Seat {
    int number = 0;  // the rank among all of run_ranks(), for messages
    int64_t arrived = 0, parted = 0;
    bool left = false;
    std::string label;
    const Offer* offer = nullptr;
    int color = 0;
  };
  struct Letter {
    ConstBytes block;
    enum { waiting, being_read, read } state = waiting;
  };

  InProcessTable(std::shared_ptr<InProcessHall> hall, const std::vector<int>& numbers);

  const std::shared_ptr<InProcessHall> hall;
  std::vector<Seat> seats;
  int64_t met = 0;                                          // meetings that were complete
  std::map<std::pair<int, int>, Letter> letters;            // by sender and receiver
  std::map<int, std::shared_ptr<InProcessTable>> children;  // of the split under way, by color
};

class InProcessTransport final : public Transport {
 public:
  InProcessTransport(std::shared_ptr<InProcessTable> table, int rank)
      : table_(std::move(table)), hall_(*table_->hall), rank_(rank) {}
  ~InProcessTransport() override;

  const char* backend() const override { return "in-process"; }
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(table_->seats.size()); }
  void all_to_all(const std::vector<std::vector<ConstBytes>>& send,
                  const std::vector<std::vector<Bytes>>& recv) override;
  void broadcast(const std::vector<Bytes>& blocks, int root) override;
  void send(ConstBytes block, int to) override;
  void recv(Bytes block, int from) override;
  void barrier() override;
  std::unique_ptr<Transport> split(int color) override;
  void abort(const std::string& reason) override { hall_.abort(reason); }
  void set_label(const std::string& label) override { label_ = label; }

 private:
  using Clock = std::chrono::steady_clock;
  using Lock = std::unique_lock<std::mutex>;

  InProcessTable::Seat& seat(int rank) { return table_->seats[static_cast<size_t>(rank)]; }
  void meet(const InProcessTable::Offer& offer, int color);
  void part();
  template <class Done, class Missing>
  void wait(Lock& lock, const Done& done, const Missing& missing);
  std::string difference();
  void take_time(Clock::time_point start, size_t sent_bytes) const;
  [[noreturn]] void fail_call(const Lock& held, const std::string& why);
  std::string named(const std::vector<int>& ranks);

  std::shared_ptr<InProcessTable> table_;
  InProcessHall& hall_;
  const int rank_;
  std::string label_;
};

}  // namespace tendril::dist
