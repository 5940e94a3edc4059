#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <tendril/dist/store/monitor.h>

#include "dist/child_process.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::dist;
using namespace tendril::testing;
using namespace std::chrono_literals;

namespace {

constexpr auto kTick = 40ms;     // a rank counts as hung after 15 of them
constexpr auto kPatience = 30s;  // with a busy machine; the timeouts are longer

// What the monitor of one rank has told its engine.
class Reasons {
 public:
  void add(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    list_.push_back(reason);
    changed_.notify_all();
  }
  /// The first one; "" when none has come within the time.
  std::string wait(std::chrono::milliseconds time = kPatience) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, time, [this] { return !list_.empty(); });
    return list_.empty() ? "" : list_.front();
  }
  size_t count() {
    const std::lock_guard lock(mutex_);
    return list_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> list_;
};

// A monitor whose rank is this process; several make a job in one process.
struct Rank {
  Reasons aborts, ends;
  std::shared_ptr<Monitor> monitor;

  void start(int rank, int size, int port, std::chrono::milliseconds timeout = 60s,
             std::chrono::milliseconds tick = kTick) {
    monitor = start_monitor({.rank = rank,
                             .size = size,
                             .address = {"127.0.0.1", port},
                             .timeout = timeout,
                             .grace = kPatience,
                             .tick = tick,
                             .abort = [this](const std::string& reason) { aborts.add(reason); },
                             .end_process = [this](const std::string& text) { ends.add(text); }});
  }
};

// A port for a store that is started later: none of those that the system gives meanwhile to
// whoever asks for any (from 32768 on).
int free_port() {
  static int next = 10'000 + ::getpid() % 1000 * 20;
  for (;;) {
    REQUIRE(next < 32'768);
    try {
      return StoreServer("127.0.0.1", next++).port();
    } catch (const Error&) {  // taken
    }
  }
}

int number_in(const char* variable) { return std::atoi(std::getenv(variable)); }

std::unique_ptr<ChildProcess> child(int rank, int size, int port, const std::string& does,
                                    int timeout_ms = 60'000) {
  return std::make_unique<ChildProcess>(
      "a rank of the monitor's tests",
      std::map<std::string, std::string>{{"TEST_RANK", std::to_string(rank)},
                                         {"TEST_SIZE", std::to_string(size)},
                                         {"TEST_PORT", std::to_string(port)},
                                         {"TEST_TIMEOUT", std::to_string(timeout_ms)},
                                         {"TEST_DOES", does}});
}

// Waits until the rank has said that it is in this operation.
bool has_said(Store& store, int rank, const std::string& label) {
  for (const auto end = Clock::now() + kPatience; Clock::now() < end;) {
    const auto found = store.get("monitor/status/" + std::to_string(rank), 50ms);
    if (found && RankStatus::parse(found->value).label == label) return true;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

// Waits until the rank has renewed its status this many times, as it does now and then.
bool has_renewed(Store& store, int rank, int times) {
  auto before = 0ms;
  for (const auto end = Clock::now() + kPatience; Clock::now() < end;) {
    const auto found = store.get("monitor/status/" + std::to_string(rank), kPatience);
    if (found && found->age < before && --times == 0) return true;
    before = found ? found->age : 0ms;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

std::string host() { return RankStatus::of(0, {}).host; }

std::string who(int rank, int pid) {
  return "rank " + std::to_string(rank) + " (host " + host() + ", pid " + std::to_string(pid) + ")";
}

}  // namespace

TEST_SUITE("monitor") {
  TEST_CASE("a rank of the monitor's tests" * doctest::skip()) {
    const std::string does = std::getenv("TEST_DOES");
    std::atomic<bool> has_failed = false;
    auto monitor = start_monitor({.rank = number_in("TEST_RANK"),
                                  .size = number_in("TEST_SIZE"),
                                  .address = {"127.0.0.1", number_in("TEST_PORT")},
                                  .timeout = std::chrono::milliseconds(number_in("TEST_TIMEOUT")),
                                  .grace = 200ms,
                                  .tick = kTick,
                                  .abort = [&](const std::string&) { has_failed = true; }});
    monitor->enter("broadcast 40 in step 17", 40);
    monitor->leave();
    if (does == "returns") return;
    if (does == "exits") std::_Exit(0);
    monitor->enter("reduce_scatter 41 in step 17", 41);
    if (does == "hangs") std::this_thread::sleep_for(60s);
    while (!has_failed) std::this_thread::sleep_for(5ms);
  }

  TEST_CASE("a killed process is named on all others at once") {
    const int port = free_port();
    Rank zero, one;
    zero.start(0, 3, port);
    one.start(1, 3, port);
    const auto two = child(2, 3, port, "waits");
    const int pid = two->pid();
    REQUIRE(has_said(*zero.monitor->connect(), 2, "reduce_scatter 41 in step 17"));
    CHECK(zero.monitor->failure().empty());

    two->send_signal(SIGKILL);
    const std::string expected =
        who(2, pid) +
        " has ended; its last operation was reduce_scatter 41 in step 17, not finished";
    CHECK(zero.aborts.wait() == expected);
    CHECK(one.aborts.wait() == expected);
    CHECK(one.monitor->failure() == expected);
    one.monitor.reset();
    zero.monitor.reset();
    CHECK(zero.aborts.count() == 1);
    CHECK(one.aborts.count() == 1);
    CHECK(zero.ends.count() == 0);  // they have left within the grace
  }

  TEST_CASE("a process that exits without a goodbye is named as well") {
    const int port = free_port();
    Rank zero;
    zero.start(0, 2, port);
    const auto one = child(1, 2, port, "exits");
    const std::string expected = who(1, one->pid()) + " has ended; ";
    CHECK(contains(zero.aborts.wait(), expected));
    zero.monitor.reset();
  }

  TEST_CASE("the end of rank 0 is noticed by the others") {
    const int port = free_port();
    const auto zero = child(0, 2, port, "waits");
    Rank one;
    one.start(1, 2, port);
    const int pid = zero->pid();
    REQUIRE(has_said(*one.monitor->connect(), 0, "reduce_scatter 41 in step 17"));
    // Rank 1 asks what rank 0 does whenever it has renewed its own status, so the first of these
    // answers has come.
    REQUIRE(has_renewed(*one.monitor->connect(), 1, 2));
    zero->send_signal(SIGKILL);
    CHECK(one.aborts.wait() ==
          who(0, pid) +
              " has ended or cannot be reached; its last operation was reduce_scatter 41 "
              "in step 17, not finished");
    one.monitor.reset();
  }

  TEST_CASE("a normal end alarms nobody, whoever leaves first") {
    for (const int last : {0, 1}) {
      const int port = free_port();
      Rank ranks[2];
      ranks[0].start(0, 3, port);
      ranks[1].start(1, 3, port);
      const auto two = child(2, 3, port, "returns");
      CHECK(two->wait_for(kPatience) == 0);
      std::thread first([&] { ranks[1 - last].monitor.reset(); });
      std::this_thread::sleep_for(5 * kTick);
      ranks[last].monitor.reset();
      first.join();
      CHECK(ranks[0].aborts.count() == 0);
      CHECK(ranks[1].aborts.count() == 0);
    }
  }

  TEST_CASE("a report reaches all ranks, and only the first counts") {
    const int port = free_port();
    Rank zero, one;
    zero.start(0, 2, port);
    one.start(1, 2, port);
    one.monitor->report("[embedding] index out of range");
    one.monitor->report("a consequence");
    const std::string expected = who(1, ::getpid()) + " failed: [embedding] index out of range";
    CHECK(zero.aborts.wait() == expected);
    CHECK(one.aborts.wait() == expected);
    one.monitor.reset();
    zero.monitor.reset();
  }

  TEST_CASE("what a rank reports just before it leaves is heard") {
    const int port = free_port();
    Rank zero, one;
    zero.start(0, 2, port);
    one.start(1, 2, port);
    one.monitor->report("out of memory");
    one.monitor.reset();
    CHECK(contains(zero.aborts.wait(), "failed: out of memory"));
    zero.monitor.reset();
  }

  TEST_CASE("Errors of the engine's own check are reported") {
    const int port = free_port();
    Reasons reasons;
    auto monitor = start_monitor({.address = {"127.0.0.1", port},
                                  .tick = kTick,
                                  .abort = [&](const std::string& reason) { reasons.add(reason); },
                                  .poll = [](Monitor&) { fail("[nccl] unhandled system error"); }});
    CHECK(contains(reasons.wait(), "failed: [nccl] unhandled system error"));
    monitor.reset();
  }

  TEST_CASE("an operation that takes too long names who does not take part") {
    const int port = free_port();
    Rank zero, one, two;
    // Ticks of this length, so that a rank that is slow to tell what it does does not count as
    // hung.
    zero.start(0, 3, port, 1500ms, 200ms);
    one.start(1, 3, port, 60s, 200ms);
    two.start(2, 3, port, 60s, 200ms);
    one.monitor->enter("all_reduce 41 in step 3", 41);
    one.monitor->leave();
    std::this_thread::sleep_for(3 * kTick);
    zero.monitor->enter("all_reduce 42 in step 3", 42);
    two.monitor->enter("all_reduce 42 in step 3", 42);
    const std::string reason = two.aborts.wait();
    CHECK(contains(reason,
                   "all_reduce 42 in step 3 has not finished within 1.5 s: " + who(1, ::getpid()) +
                       " does not take part; its last operation was all_reduce 41 in step "
                       "3, left "));
    CHECK(contains(reason, " s ago"));
    CHECK_FALSE(contains(reason, "rank 2"));
    CHECK(zero.aborts.wait() == reason);
    CHECK(one.aborts.wait() == reason);
    two.monitor.reset();
    one.monitor.reset();
    zero.monitor.reset();
  }

  TEST_CASE("a stopped process is told from one that takes part") {
    const int port = free_port();
    Rank zero;
    zero.start(0, 2, port, 1s);
    const auto one = child(1, 2, port, "waits");
    REQUIRE(has_said(*zero.monitor->connect(), 1, "reduce_scatter 41 in step 17"));
    one->send_signal(SIGSTOP);  // silent from here on, for as long as the operation takes at least
    zero.monitor->enter("reduce_scatter 41 in step 17", 41);
    const std::string reason = zero.aborts.wait();
    CHECK(contains(reason, "reduce_scatter 41 in step 17 has not finished within 1 s: " +
                               who(1, one->pid()) + " has not been heard of for "));
    one->send_signal(SIGKILL);
    zero.monitor.reset();
  }

  TEST_CASE("a process that hangs is ended after the grace, with the reason") {
    const int port = free_port();
    Rank zero;
    zero.start(0, 3, port);
    const auto one = child(1, 3, port, "hangs"), two = child(2, 3, port, "waits");
    const int killed = two->pid();
    for (const int rank : {1, 2})
      REQUIRE(has_said(*zero.monitor->connect(), rank, "reduce_scatter 41 in step 17"));
    two->send_signal(SIGKILL);
    CHECK(one->wait_for(kPatience) == 1);
    const std::string errors = one->errors();
    CHECK(contains(errors, "[error] [dist] " + who(2, killed) + " has ended"));
    CHECK(contains(errors, "(rank 1, in reduce_scatter 41 in step 17) hangs and is ended"));
    zero.monitor.reset();
  }

  TEST_CASE("a process that goes on is left alone until the grace is over") {
    const int port = free_port();
    Reasons ends;
    auto monitor = start_monitor({.address = {"127.0.0.1", port},
                                  .grace = 150ms,
                                  .tick = kTick,
                                  .end_process = [&](const std::string& text) { ends.add(text); }});
    const auto begin = Clock::now();
    monitor->report("loss is not finite");
    CHECK(contains(ends.wait(),
                   "failed: loss is not finite; this process (rank 0, in no operation)"));
    CHECK(Clock::now() - begin >= 150ms);
    monitor.reset();
  }

  TEST_CASE("ranks that can exchange a text need no address") {
    std::promise<std::string> text;
    std::shared_future<std::string> told = text.get_future().share();
    Reasons reasons;
    std::thread other([&] {
      const auto one = start_monitor({.rank = 1,
                                      .size = 2,
                                      .exchange = [&](const std::string&) { return told.get(); },
                                      .tick = kTick});
      one->report("as a test");
      reasons.wait();
    });
    const auto zero =
        start_monitor({.rank = 0,
                       .size = 2,
                       .exchange =
                           [&](const std::string& own) {
                             text.set_value(own);
                             return own;
                           },
                       .tick = kTick,
                       .abort = [&](const std::string& reason) { reasons.add(reason); }});
    CHECK(contains(reasons.wait(), "rank 1 (host "));
    other.join();
  }

  TEST_CASE("an operation that all take part in does not blame anyone") {
    const auto status = [](int rank, const std::string& label, int64_t number, bool inside) {
      RankStatus result = RankStatus::of(
          rank, {.label = label, .number = number, .is_inside = inside, .since = Clock::now()});
      result.host = "node" + std::to_string(rank);
      result.pid = 100 + rank;
      return RankStatus::parse(result.json());
    };
    const RankStatus own = status(0, "broadcast 7", 7, true);
    CHECK(
        timeout_notice(own, 60s, 3s, {{status(1, "broadcast 7", 7, true), 0s}}) ==
        "broadcast 7 has not finished within 60 s, although all its ranks take part: a network, a "
        "device or the machine of one of them hangs; rank 0 (host node0, pid 100) noticed it");
    // One that has left the operation already took part in it; one that is in an earlier one, or
    // in another of the same number, did not.
    const auto notice = timeout_notice(own, 60s, 3s,
                                       {{status(1, "all_reduce 8", 8, true), 0s},
                                        {status(2, "all_gather 7", 7, true), 0s},
                                        {status(3, "", -1, false), 0s},
                                        {RankStatus{.rank = 4}, 0s}});
    CHECK(notice ==
          "broadcast 7 has not finished within 60 s: rank 2 (host node2, pid 102) does not take "
          "part; its last operation was all_gather 7, not finished, entered 0 s ago; rank 3 (host "
          "node3, pid 103) does not take part; it has begun no operation; rank 4 has not reported "
          "at all");
    std::vector<std::pair<RankStatus, std::chrono::milliseconds>> many;
    for (int rank = 1; rank < 20; ++rank) many.emplace_back(RankStatus{.rank = rank}, 0s);
    CHECK(contains(timeout_notice(own, 60s, 3s, many), "; and 11 more ranks"));
  }
}
