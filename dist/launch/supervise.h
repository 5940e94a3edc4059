// Children that live and die together.
//
// Each child leads a process group of its own. When one fails, when a signal asks the launcher to
// end, or when the launcher dies, all end: first by SIGTERM, after a time by SIGKILL, with
// everything that they have started.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include <tendril/dist/launch/config.h>
#include <tendril/dist/launch/output.h>

namespace tendril::launch {

struct ChildSpec {
  std::string label;                  // for messages: "rank 3"
  std::vector<std::string> command;   // [0] is a path
  Environment environment;            // all of it
  MarkLine mark_stdout, mark_stderr;  // empty: the child writes to the launcher's own
  std::string log_folder;             // gets files "stdout" and "stderr"; "" for none
  /// Its own children are in other process groups (mpirun's ranks): signals go to them, and when
  /// time is over it gets SIGTERM and kills them.
  bool manages_children = false;
};

struct SuperviseResult {
  int exit_code = 0;  // of the first child that failed; 128 + signal for one that was killed
  bool was_asked_to_end = false;  // by a signal
};

/// Starts the children and waits for all of them. SIGINT, SIGTERM, SIGHUP and SIGQUIT go on to
/// them and begin the end; SIGUSR1 and SIGUSR2 go on to them. Error when one cannot be started.
SuperviseResult supervise(const std::vector<ChildSpec>& children,
                          std::chrono::milliseconds shutdown_timeout);

}  // namespace tendril::launch
