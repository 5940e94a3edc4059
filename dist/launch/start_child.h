// fork and exec of one child.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include <tendril/dist/launch/config.h>

namespace tendril::launch {

struct StartOptions {
  int stdout_fd = 1, stderr_fd = 2;
  int death_signal = SIGKILL;  // when the launcher dies
  sigset_t signal_mask = {};   // of the child
};

/// The child leads a process group of its own and reads nothing from stdin. Error when the program
/// cannot be executed.
pid_t start_child(const std::vector<std::string>& command, const Environment& environment,
                  const StartOptions& options);

/// Becomes the program. Error when it cannot be executed.
[[noreturn]] void become(const std::vector<std::string>& command, const Environment& environment);

}  // namespace tendril::launch
