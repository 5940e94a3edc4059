#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <tendril/dist/host/watched_transport.h>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::dist;
using namespace tendril::testing;
using namespace std::chrono_literals;

namespace {

// What ranks share that are threads: enough of a transport to be watched. Broadcasts pass through a
// table; a barrier waits for all ranks or for abort().
struct Room {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<int, std::vector<std::byte>> broadcasts;  // by number
  int waiting = 0;
  std::string reason;
};

class RoomTransport final : public Transport {
 public:
  RoomTransport(std::shared_ptr<Room> room, int rank, int size)
      : room_(std::move(room)), rank_(rank), size_(size) {}
  const char* backend() const override { return "room"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void all_to_all(const std::vector<std::vector<ConstBytes>>& send,
                  const std::vector<std::vector<Bytes>>& recv) override {
    REQUIRE(size_ == 1);  // of a split
    std::memcpy(recv[0][0].data(), send[0][0].data(), send[0][0].size());
  }
  void broadcast(const std::vector<Bytes>& blocks, int root) override {
    std::unique_lock lock(room_->mutex);
    const int number = broadcasts_++;
    if (rank_ == root) room_->broadcasts[number].assign(blocks[0].begin(), blocks[0].end());
    room_->changed.notify_all();
    room_->changed.wait(lock, [&] { return room_->broadcasts.contains(number); });
    std::memcpy(blocks[0].data(), room_->broadcasts[number].data(), blocks[0].size());
  }
  void send(ConstBytes, int) override { fail("[", label_, "] the cable is cut"); }
  void recv(Bytes, int) override {}
  void barrier() override {
    std::unique_lock lock(room_->mutex);
    ++room_->waiting;
    room_->changed.notify_all();
    room_->changed.wait(lock, [&] { return room_->waiting == size_ || !room_->reason.empty(); });
    TENDRIL_CHECK(room_->reason.empty(), "[", label_, "] ", room_->reason);
  }
  std::unique_ptr<Transport> split(int) override {
    return std::make_unique<RoomTransport>(std::make_shared<Room>(), 0, 1);
  }
  void abort(const std::string& reason) override {
    const std::lock_guard lock(room_->mutex);
    if (room_->reason.empty()) room_->reason = reason;
    room_->changed.notify_all();
  }
  void set_label(const std::string& label) override { label_ = label; }

 private:
  std::shared_ptr<Room> room_;
  int rank_, size_, broadcasts_ = 0;
  std::string label_;
};

// body(transport) in a thread for each rank; returns the messages of the Errors they throw.
std::vector<std::string> messages_of_ranks(int size, const std::function<void(Transport&)>& body,
                                           std::chrono::milliseconds timeout = 60s) {
  const auto room = std::make_shared<Room>();
  std::vector<std::string> messages(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      messages[static_cast<size_t>(rank)] = message_of([&] {
        const auto transport = watch_transport(std::make_unique<RoomTransport>(room, rank, size),
                                               {.backend = "", .timeout = timeout, .grace = 20s});
        body(*transport);
      });
    });
  for (std::thread& thread : threads) thread.join();
  return messages;
}

}  // namespace

TEST_SUITE("watched_transport") {
  TEST_CASE("calls pass through, and nobody is alarmed at the end") {
    std::atomic<int> calls = 0;
    const auto messages = messages_of_ranks(3, [&](Transport& transport) {
      CHECK(std::string(transport.backend()) == "room");
      CHECK(transport.size() == 3);
      transport.set_label("barrier 1");
      transport.barrier();
      const auto part = transport.split(transport.rank());
      CHECK(part->size() == 1);
      part->set_label("barrier 1");
      part->barrier();
      ++calls;
    });
    CHECK(messages == std::vector<std::string>(3));
    CHECK(calls == 3);
  }

  TEST_CASE("a call that fails on one rank fails on all, and names it") {
    const auto messages = messages_of_ranks(3, [](Transport& transport) {
      transport.set_label("barrier 4 in step 2");
      if (transport.rank() != 1) return transport.barrier();
      transport.set_label("send to rank 0 in step 2");
      transport.send({}, 0);
    });
    CHECK(messages[1] == "[send to rank 0 in step 2] the cable is cut");
    for (const int rank : {0, 2}) {
      const std::string& message = messages[static_cast<size_t>(rank)];
      CHECK(contains(message, "[barrier 4 in step 2] rank 1 (host "));
      CHECK(contains(message, "failed: [send to rank 0 in step 2] the cable is cut"));
    }
  }

  TEST_CASE("a rank that does not come is named after the timeout") {
    std::atomic<int> failed = 0;
    const auto messages = messages_of_ranks(
        3,
        [&](Transport& transport) {
          if (transport.rank() == 2)
            while (failed < 2) std::this_thread::sleep_for(5ms);
          if (transport.rank() == 2) return;
          transport.set_label("barrier 4 in step 2");
          const std::string message = message_of([&] { transport.barrier(); });
          ++failed;
          fail(message);
        },
        1s);
    CHECK(messages[2].empty());
    for (const int rank : {0, 1})
      CHECK(contains(messages[static_cast<size_t>(rank)],
                     "barrier 4 in step 2 has not finished within 2 s: rank 2 (host "));
  }
}
