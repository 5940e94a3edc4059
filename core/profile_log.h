// Private to the profiler: what threads write down, and how it is put together.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include <tendril/core/profiler.h>

namespace tendril::detail {

struct ProfileKey {
  ProfileKind kind = ProfileKind::forward;
  std::string label;
  std::string shapes;
  friend auto operator<=>(const ProfileKey&, const ProfileKey&) = default;
};

struct ProfileCounts {
  int64_t calls = 0, total_ns = 0, self_ns = 0, flops = 0, bytes = 0;

  ProfileCounts& operator+=(const ProfileCounts& other) { return add(other, 1); }
  ProfileCounts& operator-=(const ProfileCounts& other) { return add(other, -1); }

 private:
  ProfileCounts& add(const ProfileCounts& other, int64_t sign) {
    calls += sign * other.calls;
    total_ns += sign * other.total_ns;
    self_ns += sign * other.self_ns;
    flops += sign * other.flops;
    bytes += sign * other.bytes;
    return *this;
  }
};

using ProfileRows = std::map<ProfileKey, ProfileCounts>;

struct TraceEvent {
  const ProfileKey* key = nullptr;  // in the rows of the same log
  int64_t start_ns = 0, duration_ns = 0, flops = 0, bytes = 0;
};

// A stretch of time that has not ended.
struct Frame {
  ProfileKey key;  // no label: not known yet, or nothing was recorded
  int64_t start_ns = 0, children_ns = 0, flops = 0, bytes = 0;
};

// One thread's notes. Its mutex guards all but the frames, which are the thread's own, and is
// contended only while a report is made.
struct ThreadLog {
  std::vector<Frame> frames;
  std::mutex mutex;
  int id = 0;
  ProfileRows rows;
  std::vector<TraceEvent> events;
  int64_t dropped_events = 0;
};

using ThreadLogs = std::vector<std::shared_ptr<ThreadLog>>;

/// Rows, shares and order of a report. `shapes` false: rows that differ only in shapes become one.
Profile make_profile(const ProfileRows& rows, bool shapes);

/// Writes the events that began at `begin_ns` or later in the trace event format of Chrome
/// (JSON object form, complete events, microseconds since begin_ns). Error when the file cannot be
/// written.
void write_trace(const std::string& path, const ThreadLogs& logs, int64_t begin_ns);

}  // namespace tendril::detail
