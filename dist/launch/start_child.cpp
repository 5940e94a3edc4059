#include <tendril/dist/launch/start_child.h>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include <tendril/core/error.h>

namespace tendril::launch {
namespace {

// What execve takes. The strings belong to their owners and must outlive this.
class Arguments {
 public:
  Arguments(const std::vector<std::string>& command, const Environment& environment)
      : path_(command.at(0)) {
    for (const auto& [name, value] : environment) assignments_.push_back(name + "=" + value);
    for (const std::string& word : command) words_.push_back(const_cast<char*>(word.c_str()));
    words_.push_back(nullptr);
    for (std::string& assignment : assignments_) variables_.push_back(assignment.data());
    variables_.push_back(nullptr);
  }
  void exec() { ::execve(path_.c_str(), words_.data(), variables_.data()); }

 private:
  const std::string& path_;
  std::vector<std::string> assignments_;
  std::vector<char*> words_, variables_;
};

std::string explained(int error, const std::string& path) {
  return "[launch] cannot execute " + path + ": " + std::strerror(error) +
         (error == ENOEXEC ? "; begin a script with #! and its interpreter" : "");
}

// In the child; only what is safe after fork.
void prepare(const StartOptions& options, pid_t launcher) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, options.death_signal);
  if (::getppid() != launcher) ::_exit(127);  // it died before it could say so
  ::signal(SIGPIPE, SIG_DFL);
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(null, 0);
  // Through copies: each may be the other's target.
  const int out = ::fcntl(options.stdout_fd, F_DUPFD_CLOEXEC, 3);
  const int err = ::fcntl(options.stderr_fd, F_DUPFD_CLOEXEC, 3);
  ::dup2(out, 1);
  ::dup2(err, 2);
  ::sigprocmask(SIG_SETMASK, &options.signal_mask, nullptr);
}

}  // namespace

pid_t start_child(const std::vector<std::string>& command, const Environment& environment,
                  const StartOptions& options) {
  Arguments arguments(command, environment);
  // exec closes it; a failure comes through it.
  std::array<int, 2> report{};
  TENDRIL_CHECK(::pipe2(report.data(), O_CLOEXEC) == 0,
                "[launch] cannot make a pipe: ", std::strerror(errno));
  const pid_t launcher = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    prepare(options, launcher);
    arguments.exec();
    const int error = errno;
    const ssize_t ignored = ::write(report[1], &error, sizeof error);
    ::_exit(ignored == sizeof error ? 126 : 127);
  }
  const int fork_error = errno;
  ::close(report[1]);
  int error = 0;
  ssize_t count = 0;
  while (child > 0 && (count = ::read(report[0], &error, sizeof error)) < 0 && errno == EINTR) {
  }
  ::close(report[0]);
  TENDRIL_CHECK(child > 0, "[launch] cannot start a process: ", std::strerror(fork_error));
  if (count == sizeof error) {
    ::waitpid(child, nullptr, 0);
    fail(explained(error, command[0]));
  }
  return child;
}

void become(const std::vector<std::string>& command, const Environment& environment) {
  Arguments(command, environment).exec();
  fail(explained(errno, command[0]));
}

}  // namespace tendril::launch
