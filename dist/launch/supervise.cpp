#include <tendril/dist/launch/supervise.h>

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

#include <tendril/core/error.h>
#include <tendril/core/log.h>
#include <tendril/dist/launch/guardian.h>
#include <tendril/dist/launch/process_table.h>
#include <tendril/dist/launch/start_child.h>

namespace tendril::launch {
namespace {

using Clock = std::chrono::steady_clock;

// Signals arrive by reading a descriptor, never in the middle of something else.
class Signals {
 public:
  Signals() {
    sigset_t set;
    ::sigemptyset(&set);
    for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2})
      ::sigaddset(&set, signal);
    ::sigprocmask(SIG_BLOCK, &set, &before_);
    previous_pipe_handler_ = ::signal(SIGPIPE, SIG_IGN);
    descriptor_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    TENDRIL_CHECK(descriptor_ >= 0, "[launch] signalfd: ", std::strerror(errno));
  }
  ~Signals() {
    if (descriptor_ >= 0) ::close(descriptor_);
    ::signal(SIGPIPE, previous_pipe_handler_);
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int descriptor() const { return descriptor_; }
  const sigset_t& mask_before() const { return before_; }
  /// 0 when none waits.
  int next() const {
    signalfd_siginfo info{};
    return ::read(descriptor_, &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo)
                                                                  : 0;
  }

 private:
  sigset_t before_{};
  void (*previous_pipe_handler_)(int) = nullptr;
  int descriptor_ = -1;
};

struct Child {
  const ChildSpec* spec = nullptr;
  pid_t process = -1;  // and its group; -1 once it has ended
  std::unique_ptr<OutputStream> out, err;
  bool was_told_to_kill = false;  // of one that manages children
};

std::string describe_end(const siginfo_t& end) {
  if (end.si_code == CLD_EXITED) return " failed with exit code " + std::to_string(end.si_status);
  return " was ended by signal " + std::to_string(end.si_status) + " (" +
         ::strsignal(end.si_status) + ")";
}

class Supervisor {
 public:
  explicit Supervisor(std::chrono::milliseconds timeout) : timeout_(timeout), guardian_(timeout) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // see end_strays()
  }
  ~Supervisor() {  // children that still live here: one of them could not be started
    for (Child& child : children_) send(child, SIGKILL);
    for (Child& child : children_)
      if (child.process > 0) ::waitpid(child.process, nullptr, 0);
  }
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  void start(const ChildSpec& spec) {
    Child child{&spec, -1, open_stream(spec, 1), open_stream(spec, 2), false};
    StartOptions options{.signal_mask = signals_.mask_before()};
    if (child.out) options.stdout_fd = child.out->write_end();
    if (child.err) options.stderr_fd = child.err->write_end();
    if (spec.manages_children) options.death_signal = SIGTERM;
    child.process = start_child(spec.command, spec.environment, options);
    guardian_.watch(child.process, spec.manages_children);
    if (child.out) child.out->close_write_end();
    if (child.err) child.err->close_write_end();
    children_.push_back(std::move(child));
  }

  SuperviseResult run() {
    while (alive() > 0) {
      wait();
      for (int signal = signals_.next(); signal != 0; signal = signals_.next()) handle(signal);
      reap();
      if (deadline_ && Clock::now() >= *deadline_) kill_all();
    }
    end_strays();
    for (Child& child : children_)
      for (OutputStream* stream : {child.out.get(), child.err.get()})
        if (stream) stream->finish();
    return result_;
  }

 private:
  static std::unique_ptr<OutputStream> open_stream(const ChildSpec& spec, int target) {
    MarkLine mark = target == 1 ? spec.mark_stdout : spec.mark_stderr;
    if (!mark && spec.log_folder.empty()) return nullptr;
    if (!mark) mark = [](const std::string& line) { return line; };
    std::string file;
    if (!spec.log_folder.empty()) {
      std::error_code ignored;  // opening the file says what is wrong
      std::filesystem::create_directories(spec.log_folder, ignored);
      file = spec.log_folder + (target == 1 ? "/stdout" : "/stderr");
    }
    return std::make_unique<OutputStream>(target, std::move(mark), file);
  }

  // What ranks have started in groups of its own (timeout does that) became the launcher's when its
  // parent ended. What left the session was meant to stay.
  void end_strays() const {
    const pid_t self = ::getpid(), session = ::getsid(0);
    for (bool found = true; found;) {
      found = false;
      for (const ProcessEntry& entry : living_processes()) {
        if (entry.parent != self || entry.session != session)
          continue;    // the guardian's is another
        found = true;  // and may leave children in turn
        ::kill(entry.process, SIGKILL);
        ::waitpid(entry.process, nullptr, 0);
      }
    }
  }

  int64_t alive() const {
    return std::count_if(children_.begin(), children_.end(),
                         [](const Child& child) { return child.process > 0; });
  }

  // For signals, output or the deadline; output is passed on.
  void wait() {
    std::vector<pollfd> polled = {{signals_.descriptor(), POLLIN, 0}};
    std::vector<OutputStream*> streams;
    for (Child& child : children_)
      for (OutputStream* stream : {child.out.get(), child.err.get()})
        if (stream && stream->is_open()) {
          polled.push_back({stream->read_end(), POLLIN, 0});
          streams.push_back(stream);
        }
    int milliseconds = -1;
    if (deadline_) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - Clock::now());
      milliseconds = static_cast<int>(std::max<int64_t>(0, left.count()));
    }
    if (::poll(polled.data(), polled.size(), milliseconds) <= 0) return;
    for (size_t i = 0; i < streams.size(); ++i)
      if (polled[i + 1].revents != 0) streams[i]->pump();
  }

  // To the child's whole group.
  static void send(const Child& child, int signal) {
    if (child.process > 0) ::kill(-child.process, signal);
  }

  // mpirun would answer SIGTERM by killing its ranks a second later. So what the user sends goes to
  // its ranks on this machine, who may need longer, for a last checkpoint say; when they end, so do
  // mpirun and the ranks of other machines.
  static void send_to_ranks(const Child& child, int signal) {
    if (!child.spec->manages_children) return send(child, signal);
    for (const ProcessEntry& entry : living_processes())
      if (entry.parent == child.process)
        ::kill(entry.group == entry.process ? -entry.group : entry.process, signal);
  }

  void begin_end(int signal) {
    for (const Child& child : children_) send_to_ranks(child, signal);
    if (!deadline_) deadline_ = Clock::now() + timeout_;
  }

  // mpirun kills its ranks on all machines when SIGTERM reaches it, and gets the time for that.
  void kill_all() {
    constexpr std::chrono::seconds kManagerTime{10};
    deadline_.reset();
    for (Child& child : children_) {
      if (child.process < 0) continue;
      log_warning("[launch] ", child.spec->label, " did not end in time and is killed");
      const bool is_first = child.spec->manages_children && !child.was_told_to_kill;
      if (is_first) deadline_ = Clock::now() + kManagerTime;
      child.was_told_to_kill = true;
      if (!is_first) send_to_ranks(child, SIGKILL);
      send(child, is_first ? SIGTERM : SIGKILL);
    }
  }

  void handle(int signal) {
    if (signal == SIGUSR1 || signal == SIGUSR2) {
      for (const Child& child : children_) send_to_ranks(child, signal);
    } else if (signal != SIGCHLD) {
      result_.was_asked_to_end = true;
      begin_end(signal);
    }
  }

  void reap() {
    for (Child& child : children_) {
      siginfo_t end{};
      if (child.process < 0 ||
          ::waitid(P_PID, static_cast<id_t>(child.process), &end, WEXITED | WNOHANG | WNOWAIT) !=
              0 ||
          end.si_pid == 0)
        continue;
      // Not waited for yet, so its number cannot name another group: what it left behind goes too.
      send(child, SIGKILL);
      guardian_.forget(child.process);
      ::waitpid(child.process, nullptr, 0);
      child.process = -1;
      note_end(child, end);
    }
  }

  void note_end(const Child& child, const siginfo_t& end) {
    const bool exited = end.si_code == CLD_EXITED;
    const int code = exited ? end.si_status : 128 + end.si_status;
    if (code == 0 || result_.exit_code != 0) return;
    result_.exit_code = code;
    if (result_.was_asked_to_end) return;
    log_message(LogLevel::error, "[launch] ", child.spec->label, describe_end(end),
                alive() > 0 ? "; ending the others" : "");
    begin_end(SIGTERM);
  }

  const std::chrono::milliseconds timeout_;
  Signals signals_;  // before the guardian: SIGCHLD of all waits to be read
  Guardian guardian_;
  std::vector<Child> children_;
  std::optional<Clock::time_point> deadline_;
  SuperviseResult result_;
};

}  // namespace

SuperviseResult supervise(const std::vector<ChildSpec>& children,
                          std::chrono::milliseconds shutdown_timeout) {
  Supervisor supervisor(shutdown_timeout);
  for (const ChildSpec& child : children) supervisor.start(child);
  return supervisor.run();
}

}  // namespace tendril::launch
