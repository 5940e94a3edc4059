#include <doctest/doctest.h>

#include <csignal>
#include <memory>

#include <tendril/trainer/checkpoint/stop_signal.h>

#include "checkpoint_files.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

volatile std::sig_atomic_t seen = 0;
void application_handler(int signal) { seen = signal; }
void other_handler(int) {}

using Handler = void (*)(int);

bool has_handler(int signal, Handler handler) {
  struct sigaction now = {};
  REQUIRE(::sigaction(signal, nullptr, &now) == 0);
  return now.sa_handler == handler;
}

// Sets handlers for the length of a test.
struct Handlers {
  Handler term, interrupt;
  explicit Handlers(Handler both)
      : term(std::signal(SIGTERM, both)), interrupt(std::signal(SIGINT, both)) {
    seen = 0;
  }
  ~Handlers() {
    std::signal(SIGTERM, term);
    std::signal(SIGINT, interrupt);
  }
};

}  // namespace

TEST_SUITE_BEGIN("stop_signal");

TEST_CASE("a signal is noted and nothing else happens") {
  for (const int signal : {SIGTERM, SIGINT}) {
    const Handlers before(application_handler);
    const StopSignal stop;
    CHECK_FALSE(stop.requested());
    CHECK(stop.received() == 0);
    std::raise(signal);
    CHECK(stop.requested());
    CHECK(stop.received() == signal);
    CHECK(seen == 0);
  }
}

TEST_CASE("the handlers before come back") {
  const Handlers before(application_handler);
  {
    const StopSignal stop;
    CHECK_FALSE(has_handler(SIGTERM, application_handler));
    CHECK_FALSE(has_handler(SIGINT, application_handler));
  }
  CHECK(has_handler(SIGTERM, application_handler));
  CHECK(has_handler(SIGINT, application_handler));
  std::raise(SIGTERM);
  CHECK(seen == SIGTERM);
}

TEST_CASE("a second run starts without the first one's signal") {
  const Handlers before(application_handler);
  {
    const StopSignal stop;
    std::raise(SIGINT);
    CHECK(stop.requested());
  }
  const StopSignal stop;
  CHECK_FALSE(stop.requested());
  std::raise(SIGINT);  // caught again
  CHECK(stop.received() == SIGINT);
  CHECK(seen == 0);
}

TEST_CASE("a second Ctrl-C goes to what was there before; further SIGTERMs change nothing") {
  const Handlers before(application_handler);
  {
    const StopSignal stop;
    std::raise(SIGTERM);
    std::raise(SIGTERM);
    std::raise(SIGINT);
    CHECK(seen == 0);
    CHECK(stop.requested());
    std::raise(SIGINT);
    CHECK(seen == SIGINT);
  }
  CHECK(has_handler(SIGINT, application_handler));
  CHECK(has_handler(SIGTERM, application_handler));
}

TEST_CASE("with the default before, a second Ctrl-C ends the process and one does not") {
  const auto end_after = [](int interrupts) {
    return end_of_child(start_child([&] {
      std::signal(SIGINT, SIG_DFL);
      const StopSignal stop;
      for (int i = 0; i < interrupts; ++i) std::raise(SIGINT);
      return stop.received() == SIGINT ? 0 : 1;
    }));
  };
  CHECK(end_after(1) == 0);
  CHECK(end_after(2) == -SIGINT);
}

TEST_CASE("what the process ignores stays ignored") {
  const Handlers before(SIG_IGN);
  const StopSignal stop;
  std::raise(SIGINT);
  std::raise(SIGTERM);
  CHECK_FALSE(stop.requested());
}

TEST_CASE("nested and overlapping ones share what is noted") {
  const Handlers before(application_handler);
  auto first = std::make_unique<StopSignal>();
  auto second = std::make_unique<StopSignal>();
  std::raise(SIGTERM);
  CHECK(first->requested());
  CHECK(second->requested());
  first.reset();
  CHECK(second->requested());
  CHECK_FALSE(has_handler(SIGTERM, application_handler));
  std::raise(SIGTERM);
  CHECK(seen == 0);
  const StopSignal third;
  CHECK(third.requested());
  second.reset();
  CHECK_FALSE(has_handler(SIGTERM, application_handler));
}

TEST_CASE("handlers that the application installs meanwhile are left alone") {
  const Handlers before(application_handler);
  {
    const StopSignal stop;
    std::signal(SIGTERM, other_handler);
  }
  CHECK(has_handler(SIGTERM, other_handler));
  CHECK(has_handler(SIGINT, application_handler));
}

TEST_SUITE_END();
