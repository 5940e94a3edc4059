// What happens when a rank does not come, throws, or calls something else; and the link model.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <thread>

#include <tendril/core/creation.h>
#include <tendril/dist/in_process.h>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::dist;
using namespace tendril::testing;
using namespace std::chrono_literals;

namespace {

using Group = std::shared_ptr<ProcessGroup>;
using Clock = std::chrono::steady_clock;

double milliseconds_of(const auto& body) {
  const auto start = Clock::now();
  body();
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// What each rank's Error says when all catch their own.
std::vector<std::string> messages_of_ranks(int ranks, const auto& body,
                                           const InProcessOptions& options = {}) {
  std::vector<std::string> messages(static_cast<size_t>(ranks));
  run_ranks(
      ranks,
      [&](const Group& group) {
        messages[static_cast<size_t>(group->rank())] = message_of([&] { body(group); });
      },
      options);
  return messages;
}

constexpr double kMuchSooner = 10'000.0;  // milliseconds; than the timeout of a minute

}  // namespace

TEST_SUITE_BEGIN("group_faults");

TEST_CASE("a rank that does not come in time is named, with the operation and the step") {
  std::atomic<int> failed{0};  // the late ranks stay until the others have noticed
  const auto messages = messages_of_ranks(
      4,
      [&](const Group& group) {
        group->set_step(17);
        group->all_reduce(ones({3})).wait();
        if (group->rank() % 2 == 1) {
          while (failed < 2) std::this_thread::sleep_for(1ms);
          group->broadcast({ones({3})}, 0).wait();
        }
        const Work work = group->broadcast({ones({3})}, 0);
        const std::string message = message_of([&] { work.wait(); });
        ++failed;
        CHECK(message_of([&] { work.wait(); }) == message);  // on every call
        fail(message);
      },
      {.timeout = 2s});  // for the four to come together, however busy the machine
  // Which of the two notices first is left open; the other says what that one said.
  const std::string why = "ranks 1 and 3 did not come within 2000 ms";
  CHECK(contains(messages[0], "[broadcast 2 in step 17] rank 0: "));
  CHECK(contains(messages[0], why));
  CHECK(contains(messages[2], "[broadcast 2 in step 17] rank 2: "));
  CHECK(contains(messages[2], why));
  CHECK(contains(messages[1], "the group was aborted: "));
  CHECK(contains(messages[1], why));
}

TEST_CASE("a rank that throws ends the others' operations at once, and its error is thrown again") {
  std::mutex mutex;
  std::vector<std::string> others;
  std::string thrown;
  const double time = milliseconds_of([&] {
    thrown = message_of([&] {
      run_ranks(3, [&](const Group& group) {
        const Group pair = group->split(group->rank() / 2);  // goes before the group does
        group->all_reduce(ones({2000})).wait();
        if (group->rank() == 2) fail("[my model] out of luck");
        const std::string message = message_of([&] {
          group->all_reduce(ones({2000})).wait();  // waits for rank 2
        });
        const std::string next = message_of([&] { group->barrier().wait(); });
        const std::lock_guard lock(mutex);
        others.push_back(message);
        others.push_back(next);
      });
    });
  });
  CHECK(thrown == "[my model] out of luck");
  CHECK(time < kMuchSooner);
  REQUIRE(others.size() == 4);
  for (const std::string& message : others) {
    CAPTURE(message);
    CHECK(contains(message, "rank 2 stopped: [my model] out of luck"));
    CHECK((contains(message, "[all_reduce 3]") || contains(message, "[barrier 4]")));
  }
}

TEST_CASE("exceptions of any kind are thrown again") {
  CHECK_THROWS_AS(run_ranks(2,
                            [](const Group& group) {
                              if (group->rank() == 0) throw std::invalid_argument("no");
                              group->barrier().wait();
                            }),
                  std::invalid_argument);
  CHECK_THROWS_AS(run_ranks(2,
                            [](const Group& group) {
                              if (group->rank() == 1) throw 5;
                              group->barrier().wait();
                            }),
                  int);
}

TEST_CASE("a rank that has returned is not waited for") {
  std::vector<std::string> messages;
  const double time = milliseconds_of([&] {
    messages = messages_of_ranks(3, [](const Group& group) {
      if (group->rank() == 1) return;
      group->barrier().wait();
    });
  });
  CHECK(time < kMuchSooner);
  CHECK(messages[1].empty());
  CHECK(contains(messages[0] + messages[2], "[barrier 1] rank "));
  CHECK(contains(messages[0] + messages[2], ": rank 1 left the group before that"));
}

TEST_CASE("abort fails what runs and what comes, in all groups of split()") {
  const auto messages = messages_of_ranks(4, [](const Group& group) {
    const Group half = group->split(group->rank() / 2);
    half->barrier().wait();
    if (group->rank() == 3) {
      group->abort("the disk is full");
      group->abort("a later reason");
    }
    for (;;) half->barrier().wait();
  });
  for (const std::string& message : messages) {
    CAPTURE(message);
    CHECK(contains(message, "the group was aborted: the disk is full"));
  }
}

TEST_CASE("different calls and sizes are noticed") {
  const auto calls = messages_of_ranks(2, [](const Group& group) {
    group->barrier().wait();
    if (group->rank() == 0)
      group->all_reduce(ones({4})).wait();
    else
      group->barrier().wait();
  });
  CHECK(contains(calls[0], "[all_reduce 2] rank 0: rank 1 is in barrier 2"));
  CHECK(contains(calls[1], "[barrier 2] rank 1: rank 0 is in all_reduce 2"));
  const auto sizes = messages_of_ranks(
      2, [](const Group& group) { group->all_reduce(ones({3 + group->rank()})).wait(); });
  CHECK(contains(sizes[0], "rank 1 gives 16 bytes where 12 are expected"));
  CHECK(contains(sizes[1], "rank 0 gives 12 bytes where 16 are expected"));
  const auto letters = messages_of_ranks(2, [](const Group& group) {
    if (group->rank() == 0)
      group->send(ones({3}), 1).wait();
    else
      group->recv(ones({4}), 0).wait();
  });
  CHECK(contains(letters[1],
                 "[recv from rank 0] rank 1: rank 0 sends 12 bytes where 16 are expected"));
}

TEST_CASE("messages that nobody takes or sends") {
  for (const bool is_sent : {true, false}) {
    std::atomic<bool> failed{false};  // the other rank stays until then
    const auto messages = messages_of_ranks(
        2,
        [&](const Group& group) {
          if (group->rank() == 1) {
            while (!failed) std::this_thread::sleep_for(1ms);
            return;
          }
          const Work work = is_sent ? group->send(ones({3}), 1) : group->recv(ones({3}), 1);
          const std::string message = message_of([&] { work.wait(); });
          failed = true;
          fail(message);
        },
        {.timeout = 50ms});
    CHECK(messages[0] == std::string(is_sent ? "[send to rank 1]" : "[recv from rank 1]") +
                             " rank 0: rank 1 did not come within 50 ms");
    CHECK(messages[1].empty());
  }
}

TEST_CASE("operations that were not waited for end before run_ranks returns") {
  std::vector<Tensor> tensors(2);
  run_ranks(2, [&](const Group& group) {
    const Tensor x = full({3000}, group->rank() + 1);
    tensors[static_cast<size_t>(group->rank())] = x;
    group->all_reduce(x);
  });
  for (const Tensor& x : tensors) CHECK(x.to_vector<float>() == std::vector<float>(3000, 3.0f));
}

TEST_CASE("the link model: an operation takes its latency and its bytes' time, not the caller's") {
  // all_reduce sends 2 n (N-1)/N = n bytes with two ranks: 40 KB at 2 MB/s are 20 ms.
  const InProcessOptions options{.latency = 20ms, .bytes_per_second = 2e6};
  run_ranks(
      2,
      [](const Group& group) {
        const Tensor x = ones({10'000});
        group->barrier().wait();
        const auto start = Clock::now();
        const Work work = group->all_reduce(x);
        const bool is_done = work.is_done();
        if (Clock::now() - start < 40ms) CHECK_FALSE(is_done);  // a busy machine may ask late
        work.wait();
        CHECK(Clock::now() - start >= 40ms);
        CHECK(milliseconds_of([&] { group->barrier().wait(); }) >= 20.0);
        if (group->rank() == 0)
          CHECK(milliseconds_of([&] { group->send(x, 1).wait(); }) >= 40.0);
        else
          group->recv(x, 0).wait();
      },
      options);
}

TEST_SUITE_END();
