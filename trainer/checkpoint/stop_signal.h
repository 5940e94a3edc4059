// SIGTERM and SIGINT ask training to stop after the step, with a checkpoint, instead of ending the
// process.
#pragma once

#include <tendril/core/api.h>

namespace tendril {

/// Catches the two signals while one lives. A handler does no more than note the signal. The first
/// SIGINT also puts back what was there before, so that a second Ctrl-C gets the user out at once;
/// further SIGTERMs change nothing. A signal that the process ignores (nohup) stays ignored.
///
/// Several may live, in nested or overlapping scopes and on any thread (two Trainers): they share
/// what is noted, the first installs the handlers and the last puts the previous ones back, unless
/// the application has installed others meanwhile.
class TENDRIL_API StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// Whether a signal came since the first of those that live now.
  bool requested() const { return received() != 0; }
  /// SIGTERM or SIGINT, the latest; 0 when none came.
  int received() const;
};

}  // namespace tendril
