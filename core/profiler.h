// Where the time goes. For a whole program, without changing it:
//
//   TENDRIL_PROFILE=1 program                   the table below on stderr when the program ends
//   TENDRIL_PROFILE=shapes program              one row for each combination of shapes
//   TENDRIL_PROFILE=trace.json program          the table, and a trace for chrome://tracing or
//   ui.perfetto.dev TENDRIL_PROFILE=shapes,trace.json program   both; 0 or nothing: off
//
// For a part of one:
//
//   ProfilerScope profile({.trace_file = "step.json"});
//   for (...) { ProfileRange range("block 3"); ... }
//   std::cerr << profile.report().table();
//
//   operation          calls    total ms     self ms    share   GFLOP/s      GB/s         bytes
//   linear backward      255     466.435     466.435   32.1 %      80.9       1.4      664.8 MB
//   linear               255     256.587     256.587   17.6 %      73.6       1.7      444.6 MB
//   ...
//
// Time is what the calling thread waits for an operation, whatever the number of threads that work
// on it; on a GPU it waits for each operation before the next while a profile is taken, and the
// program is slower than without. total includes what runs inside; self does not, and its sum is
// 100 % of share. Operations of dense algebra count their floating-point operations exactly from
// the shapes (2 M N K; attention: visible pairs only; a mask counts as all visible). bytes are
// those of the tensors read and written once each. When nobody profiles, an operation pays for a
// few relaxed loads of one flag.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <tendril/core/op_timer.h>

namespace tendril {

class ProfileSession;

struct ProfileRow {
  std::string name;  // of the operation as in ops.def, or of the range
  ProfileKind kind = ProfileKind::forward;
  std::string shapes;  // "f32 (12, 64), f32 (128, 64)" of the inputs, when asked for
  int64_t calls = 0;
  double seconds = 0.0;       // a range inside a range of the same name counts once
  double self_seconds = 0.0;  // without the operations and ranges inside
  double share = 0.0;         // self_seconds over the sum of all rows' self_seconds
  int64_t flops = 0;          // 0 where no dense algebra happens
  int64_t bytes = 0;

  double gflops_per_second() const {
    return seconds > 0.0 ? static_cast<double>(flops) / seconds * 1e-9 : 0.0;
  }
  double gbytes_per_second() const {
    return seconds > 0.0 ? static_cast<double>(bytes) / seconds * 1e-9 : 0.0;
  }
};

struct TENDRIL_API Profile {
  double wall_seconds = 0.0;
  int threads = 0;               // that called operations
  int64_t dropped_events = 0;    // of the trace, beyond a million per thread
  std::vector<ProfileRow> rows;  // largest self_seconds first

  /// The first row of this name and kind, or null.
  const ProfileRow* find(std::string_view name, ProfileKind kind = ProfileKind::forward) const;
  /// Text for people: operations first, then ranges.
  std::string table() const;
};

struct ProfilerOptions {
  bool shapes = false;  // a row for each combination of input shapes
  std::string trace_file =
      {};  // when not empty: a Chrome trace is written here at the end of the scope
};

/// Profiles the whole process, all threads, while it lives. Scopes may overlap: each reports what
/// ended during its own life. When it ends, the table goes to the sink unless report() was called,
/// and the trace is written; if that fails, the sink is told why.
class TENDRIL_API ProfilerScope {
 public:
  explicit ProfilerScope(ProfilerOptions options = {});
  ~ProfilerScope();
  ProfilerScope(const ProfilerScope&) = delete;
  ProfilerScope& operator=(const ProfilerScope&) = delete;

  /// What was measured so far.
  Profile report();

 private:
  std::unique_ptr<ProfileSession> session_;
};

/// A named stretch of the program: a row of the table, and in the trace the bar that its operations
/// lie under.
class ProfileRange {
 public:
  explicit ProfileRange(std::string_view name) : timer_(ProfileKind::range, name) {}

 private:
  OpTimer timer_;
};

/// Takes the profiler's texts; an empty one restores the default, stderr. It must outlive the
/// program's statics when TENDRIL_PROFILE is used.
using ProfileSink = std::function<void(const std::string& text)>;
TENDRIL_API void set_profile_sink(ProfileSink sink);

}  // namespace tendril
