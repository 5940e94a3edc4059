// Private to dist: what a rank tells the others about itself, and the messages made of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <tendril/core/api.h>

namespace tendril::dist {

/// What a rank does: the operation that it is in or that it has left last.
struct Activity {
  std::string label;         // "all_reduce 17 in step 3"; empty before the first
  int64_t number = -1;       // of the operation among those of its group; -1 when not known
  std::vector<int> ranks{};  // that take part, among all; empty for all
  bool is_inside = false;
  std::chrono::steady_clock::time_point since{};  // when it was entered or left
};

struct RankStatus {
  int rank = 0;
  std::string host{};
  int64_t pid = 0;
  std::string label{};
  int64_t number = -1;
  std::vector<int> ranks{};
  bool is_inside = false;
  std::chrono::milliseconds age{0};  // since it was entered or left

  /// Of this process.
  static RankStatus of(int rank, const Activity& activity);
  static RankStatus parse(const std::string& json);
  std::string json() const;

  std::string who() const;             // "rank 2 (host node1, pid 123)"
  std::string last_operation() const;  // "; its last operation was ..."
  std::string end_notice() const;      // "rank 2 (host ..., pid ...) has ended; its last ..."
};

/// "0.35 s", "61 s".
std::string seconds_text(std::chrono::milliseconds duration);

/// Why `own` operation has not finished in time: who does not take part, or that all do. `others`:
/// a status of each rank that should, and how long ago it came; ranks that were silent for longer
/// than `silence` are taken for hung.
std::string timeout_notice(
    const RankStatus& own, std::chrono::milliseconds timeout, std::chrono::milliseconds silence,
    const std::vector<std::pair<RankStatus, std::chrono::milliseconds>>& others);

}  // namespace tendril::dist
