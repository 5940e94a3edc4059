#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <thread>

#include <tendril/autograd/functions.h>
#include <tendril/core/log.h>
#include <tendril/trainer/checkpoint/background_writer.h>

#include "checkpoint_files.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// A door that jobs wait at until the test opens it.
class Door {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

}  // namespace

TEST_SUITE_BEGIN("background_writer");

TEST_CASE("a job runs on another thread while the caller goes on") {
  BackgroundWriter background;
  background.wait();  // nothing to wait for
  Door door;
  std::thread::id thread;
  bool done = false;
  background.submit([&] {
    thread = std::this_thread::get_id();
    door.pass();
    done = true;
  });
  // Had submit() waited for its job, nobody would open the door.
  door.open();
  background.wait();
  CHECK(done);
  CHECK(thread != std::this_thread::get_id());
}

TEST_CASE("one job at a time, in order") {
  BackgroundWriter background;
  std::atomic<int> inside{0}, most{0};
  std::vector<int> order;
  for (int i = 0; i < 20; ++i)
    background.submit([&, i] {
      most = std::max(most.load(), ++inside);
      order.push_back(i);
      std::this_thread::yield();
      --inside;
    });
  background.wait();
  CHECK(most == 1);
  REQUIRE(order.size() == 20);
  for (int i = 0; i < 20; ++i) CHECK(order[static_cast<size_t>(i)] == i);
}

TEST_CASE("an error comes out once, at the next wait or submit") {
  BackgroundWriter background;
  background.submit([] { fail("[test] disk full"); });
  CHECK(error_of([&] { background.wait(); }) == "[test] disk full");
  CHECK(error_of([&] { background.wait(); }).empty());

  background.submit([] { fail("[test] quota"); });
  bool ran = false;
  CHECK(error_of([&] { background.submit([&] { ran = true; }); }) == "[test] quota");
  background.wait();
  CHECK_FALSE(ran);  // a job whose submit() threw does not run
  background.submit([&] { ran = true; });
  background.wait();
  CHECK(ran);

  background.submit([] { throw std::logic_error("of another kind"); });
  CHECK_THROWS_AS(background.wait(), std::logic_error);
  CHECK(contains_text(error_of([&] { background.submit({}); }), "the job is empty"));
}

TEST_CASE("the destructor waits, and what nobody heard of is logged") {
  std::string logged;
  set_log_sink([&](LogLevel level, const std::string& message) {
    if (level == LogLevel::error) logged += message;
  });
  Door door;
  bool done = false;
  std::thread opener([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    door.open();
  });
  {
    BackgroundWriter background;
    background.submit([&] {
      door.pass();
      done = true;
      fail("[test] too late");
    });
  }
  CHECK(done);
  opener.join();
  set_log_sink({});
  CHECK(contains_text(logged, "[test] too late"));
}

TEST_CASE("a checkpoint written behind the back of training holds the snapshot") {
  const TemporaryFolder folder(memory_folder());
  const auto checkpoint = folder.path() / "checkpoint-1";
  Tensor weight = Tensor::from<float>({1, 2}, {2});
  Door door;
  BackgroundWriter background;
  background.submit([&door, checkpoint, snapshot = StateDict{{"w", clone(weight)}}] {
    door.pass();
    CheckpointWriter writer(checkpoint);
    writer.tensors("model.safetensors", snapshot);
    writer.commit();
  });
  weight.span<float>()[0] = 7;  // training goes on
  door.open();
  background.wait();
  CHECK(checkpoint_faults(checkpoint).empty());
  const auto written = load_safetensors((checkpoint / "model.safetensors").string());
  CHECK(written.at("w").to_vector<float>() == std::vector<float>{1, 2});
}

TEST_SUITE_END();
