// The test program once more, as another process that can be killed: it runs one test case, which
// reads from the environment what it is to do.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

extern char** environ;

namespace tendril::testing {

class ChildProcess {
 public:
  /// Runs the test case of this name, which has the decorator doctest::skip(), with these
  /// environment variables on top of our own.
  ChildProcess(const std::string& test_case, const std::map<std::string, std::string>& variables) {
    std::vector<std::string> environment,
        arguments{"/proc/self/exe", "--no-skip", "--minimal", "--test-case=" + test_case};
    for (const auto& [name, value] : variables) environment.push_back(name + "=" + value);
    for (char** entry = environ; *entry; ++entry) {
      const std::string text = *entry;
      if (!variables.contains(text.substr(0, text.find('=')))) environment.push_back(text);
    }
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
    const int status = ::posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr,
                                     pointers(arguments).data(), pointers(environment).data());
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    errors_ = ends[0];
    REQUIRE(status == 0);
  }
  ~ChildProcess() {
    if (pid_ > 0) {
      send_signal(SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(errors_);
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  int pid() const { return pid_; }
  void send_signal(int signal) const { ::kill(pid_, signal); }

  /// Its exit status (128 + signal for a killed one), or none when it still runs after this time.
  std::optional<int> wait_for(std::chrono::milliseconds time) {
    const auto deadline = std::chrono::steady_clock::now() + time;
    for (;;) {
      int status = 0;
      const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
      if (ended == pid_) {
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  /// What it wrote to stderr. Call it when it has ended.
  std::string errors() const {
    std::string text;
    char bytes[4096];
    for (ssize_t count; (count = ::read(errors_, bytes, sizeof(bytes))) > 0;)
      text.append(bytes, static_cast<size_t>(count));
    return text;
  }

 private:
  static std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> list;
    for (std::string& text : texts) list.push_back(text.data());
    list.push_back(nullptr);
    return list;
  }

  pid_t pid_ = -1;
  int errors_ = -1;
};

}  // namespace tendril::testing
