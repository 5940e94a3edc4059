#include <tendril/trainer/checkpoint/stop_signal.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>

#include <tendril/core/error.h>
#include <tendril/core/file.h>

namespace tendril {
namespace {

struct Caught {
  int signal;
  struct sigaction previous = {};
  bool installed = false;
};

Caught caught[] = {{.signal = SIGTERM}, {.signal = SIGINT}};
std::mutex guard;  // over `caught` and `living`; never taken by the handler
int living = 0;

std::atomic<int> noted{0};
static_assert(std::atomic<int>::is_always_lock_free, "a handler may touch nothing else");

extern "C" void tendril_note_stop_signal(int signal) {
  const int before = errno;
  noted.store(signal);
  // Written before the handler was installed, so complete; sigaction() is allowed in handlers.
  if (signal == SIGINT) ::sigaction(SIGINT, &caught[1].previous, nullptr);
  errno = before;
}

bool is_ours(const struct sigaction& action) {
  return !(action.sa_flags & SA_SIGINFO) && action.sa_handler == tendril_note_stop_signal;
}

void install(Caught& one) {
  TENDRIL_CHECK(::sigaction(one.signal, nullptr, &one.previous) == 0,
                "[stop_signal] cannot read the handler of signal ", one.signal, ": ",
                system_message(errno));
  if (!(one.previous.sa_flags & SA_SIGINFO) && one.previous.sa_handler == SIG_IGN) return;
  struct sigaction ours = {};
  ours.sa_handler = tendril_note_stop_signal;
  ours.sa_flags = SA_RESTART;  // reads and writes of the application go on
  sigemptyset(&ours.sa_mask);
  one.installed = ::sigaction(one.signal, &ours, nullptr) == 0;
}

void restore(Caught& one) {
  struct sigaction now = {};
  if (one.installed && ::sigaction(one.signal, nullptr, &now) == 0 && is_ours(now))
    ::sigaction(one.signal, &one.previous, nullptr);
  one.installed = false;
}

}  // namespace

StopSignal::StopSignal() {
  const std::lock_guard lock(guard);
  if (living == 0) {
    noted.store(0);
    for (Caught& one : caught) install(one);
  }
  ++living;
}

StopSignal::~StopSignal() {
  const std::lock_guard lock(guard);
  if (--living > 0) return;
  for (Caught& one : caught) restore(one);
}

int StopSignal::received() const { return noted.load(); }

}  // namespace tendril
