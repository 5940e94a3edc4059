// Which checkpoints stay when there are more than save_total_limit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <tendril/trainer/checkpoint/checkpoint_folder.h>

namespace tendril {

struct RotationRules {
  std::optional<int64_t> save_total_limit = std::nullopt;  // unset, 0 or less: everything stays
  /// best_model_checkpoint. Its last name counts alone: the output folder may have been moved.
  std::optional<std::filesystem::path> best = std::nullopt;
  /// The one that was just committed, so that it need not be read to know that it is good.
  std::optional<std::filesystem::path> just_written = std::nullopt;
  /// At the end of training a limit of 1 leaves the best alone (if there is one and it is good).
  bool training_ended = false;
};

/// The choice alone. `checkpoints` ascend by step; those named in `kept` stay; of the others the
/// oldest go until max(limit, number kept) are left. Age is the step, since the time of a file says
/// when it was copied; but steps above `present` (the one just written) are of an earlier run that
/// got further, and are the oldest of all.
TENDRIL_API std::vector<CheckpointPath> checkpoints_to_remove(
    const std::vector<CheckpointPath>& checkpoints, int64_t limit,
    const std::vector<std::string>& kept, std::optional<int64_t> present = std::nullopt);

/// Removes checkpoints beyond the limit and returns them, oldest first. Kept are the best and the
/// most recent good one: the one just written or, without it, the last that has no faults (which
/// reads it); if none is good, the last. What cannot be removed is a warning and is not returned. A
/// kill in the middle of a removal leaves nothing that looks like a checkpoint.
TENDRIL_API std::vector<std::filesystem::path> rotate_checkpoints(
    const std::filesystem::path& output_dir, const RotationRules& rules);

}  // namespace tendril
