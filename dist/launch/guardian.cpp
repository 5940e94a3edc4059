#include <tendril/dist/launch/guardian.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <thread>

#include <tendril/core/error.h>
#include <tendril/dist/launch/process_table.h>

namespace tendril::launch {
namespace {

enum class Order : int { watch, watch_manager, forget, leave };
struct Message {
  Order order;
  pid_t group;
};

using Groups = std::map<pid_t, Order>;

// Until all groups are gone, or the time is over.
void wait_for(Groups& groups, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const std::vector<ProcessEntry> living = living_processes();
    std::erase_if(groups, [&](const auto& group) {
      return std::none_of(living.begin(), living.end(),
                          [&](const ProcessEntry& entry) { return entry.group == group.first; });
    });
    if (groups.empty() || std::chrono::steady_clock::now() >= deadline) return;
    constexpr std::chrono::milliseconds kPause{50};
    std::this_thread::sleep_for(kPause);
  }
}

void end_groups(Groups groups, std::chrono::milliseconds timeout) {
  for (const auto& [group, order] : groups)
    if (order == Order::watch) ::kill(-group, SIGTERM);
  wait_for(groups, timeout);
  for (const auto& [group, order] : groups) ::kill(-group, SIGKILL);
}

[[noreturn]] void guard(int pipe, std::chrono::milliseconds timeout) {
  ::setsid();  // signals to the launcher's group or terminal are not for this process
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::signal(signal, SIG_IGN);
  ::prctl(PR_SET_NAME, "tendril-guard");
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int standard : {0, 1, 2}) ::dup2(null, standard);  // whoever reads them sees their end
  Groups groups;
  Message message{};
  for (;;) {
    const ssize_t count = ::read(pipe, &message, sizeof message);
    if (count < 0 && errno == EINTR) continue;
    if (count != sizeof message) break;  // the launcher is dead
    if (message.order == Order::leave) ::_exit(0);
    if (message.order == Order::forget)
      groups.erase(message.group);
    else
      groups[message.group] = message.order;
  }
  end_groups(groups, timeout);
  ::_exit(0);
}

void send(int pipe, const Message& message) {
  while (::write(pipe, &message, sizeof message) < 0 && errno == EINTR) {
  }
}

}  // namespace

Guardian::Guardian(std::chrono::milliseconds shutdown_timeout) {
  std::array<int, 2> ends{};
  TENDRIL_CHECK(::pipe2(ends.data(), O_CLOEXEC) == 0,
                "[launch] cannot make a pipe: ", std::strerror(errno));
  process_ = ::fork();
  if (process_ == 0) {
    ::close(ends[1]);
    guard(ends[0], shutdown_timeout);
  }
  ::close(ends[0]);
  pipe_ = ends[1];
  TENDRIL_CHECK(process_ > 0, "[launch] cannot start a process: ", std::strerror(errno));
}

Guardian::~Guardian() {
  send(pipe_, {Order::leave, 0});
  ::close(pipe_);
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Guardian::watch(pid_t group, bool manages_children) {
  send(pipe_, {manages_children ? Order::watch_manager : Order::watch, group});
}
void Guardian::forget(pid_t group) { send(pipe_, {Order::forget, group}); }

}  // namespace tendril::launch
