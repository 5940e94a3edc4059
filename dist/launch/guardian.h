// A process that outlives the launcher: when the launcher dies without a chance to clean up
// (SIGKILL), it ends the children's process groups. The kernel ends the children themselves
// (PR_SET_PDEATHSIG), but not what they have started.
#pragma once

#include <sys/types.h>

#include <chrono>

namespace tendril::launch {

class Guardian {
 public:
  explicit Guardian(std::chrono::milliseconds shutdown_timeout);
  /// Sends it away; the groups stay as they are.
  ~Guardian();
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;

  /// `group` is ended by SIGTERM, then SIGKILL; one that manages children has got its SIGTERM from
  /// the kernel already, and a second one would cut its own work short.
  void watch(pid_t group, bool manages_children);
  void forget(pid_t group);

 private:
  pid_t process_ = -1;
  int pipe_ = -1;
};

}  // namespace tendril::launch
