// Helpers for tests that end processes.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include <tendril/core/threads.h>

namespace tendril::testing {

/// Runs `body` in a forked process that ends with what it returns, or 99 after an exception, and
/// never comes back to the tests.
template <class Body>
pid_t start_child(Body&& body) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  int status = 99;
  try {
    const SerialScope serial;  // the threads of OpenMP did not come along
    status = body();
  } catch (...) {
  }
  ::_exit(status);
}

/// A byte from a child to its parent: the work is under way.
class StartSign {
 public:
  StartSign() { valid_ = ::pipe(ends_) == 0; }
  ~StartSign() {
    for (const int end : ends_) ::close(end);
  }
  StartSign(const StartSign&) = delete;
  StartSign& operator=(const StartSign&) = delete;

  void give() const { [[maybe_unused]] const auto done = ::write(ends_[1], "x", 1); }
  /// False when the child has ended without it.
  bool await() {
    ::close(std::exchange(ends_[1], -1));
    char byte;
    return valid_ && ::read(ends_[0], &byte, 1) == 1;
  }

 private:
  int ends_[2] = {-1, -1};
  bool valid_;
};

/// Waits; the exit status, or minus the signal that ended it.
inline int end_of_child(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) return 98;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace tendril::testing
