#include <tendril/trainer/checkpoint/rotation.h>

#include <algorithm>

#include <tendril/core/error.h>
#include <tendril/core/log.h>
#include <tendril/trainer/checkpoint/partial_folder.h>

namespace tendril {
namespace fs = std::filesystem;
namespace {

using Checkpoints = std::vector<CheckpointPath>;

std::string name_of(const fs::path& folder) {
  return (folder.has_filename() ? folder : folder.parent_path()).filename().string();
}

// The checkpoint of the list that has the name of `folder`, or null.
const CheckpointPath* find_by_name(const Checkpoints& checkpoints,
                                   const std::optional<fs::path>& folder) {
  for (const CheckpointPath& checkpoint : checkpoints)
    if (folder && name_of(checkpoint.folder) == name_of(*folder)) return &checkpoint;
  return nullptr;
}

const CheckpointPath& most_recent_good(const Checkpoints& checkpoints,
                                       const CheckpointPath* just_written) {
  if (just_written) return *just_written;
  const auto good = [](const CheckpointPath& checkpoint) {
    return checkpoint_faults(checkpoint.folder).empty();
  };
  const auto found = std::find_if(checkpoints.rbegin(), checkpoints.rend(), good);
  return found == checkpoints.rend() ? checkpoints.back() : *found;
}

}  // namespace

Checkpoints checkpoints_to_remove(const Checkpoints& checkpoints, int64_t limit,
                                  const std::vector<std::string>& kept,
                                  std::optional<int64_t> present) {
  if (limit <= 0) return {};
  Checkpoints oldest_first = checkpoints;
  if (present)
    std::stable_partition(oldest_first.begin(), oldest_first.end(),
                          [&](const CheckpointPath& one) { return one.step > *present; });
  const auto is_kept = [&](const CheckpointPath& one) {
    return std::find(kept.begin(), kept.end(), name_of(one.folder)) != kept.end();
  };
  const int64_t count_kept = std::count_if(oldest_first.begin(), oldest_first.end(), is_kept);
  const int64_t excess =
      static_cast<int64_t>(oldest_first.size()) - std::max<int64_t>(limit, count_kept);
  std::erase_if(oldest_first, is_kept);  // at least `excess` others are left
  oldest_first.resize(static_cast<size_t>(std::max<int64_t>(excess, 0)));
  return oldest_first;
}

std::vector<fs::path> rotate_checkpoints(const fs::path& output_dir, const RotationRules& rules) {
  const int64_t limit = rules.save_total_limit.value_or(0);
  const Checkpoints checkpoints = list_checkpoints(output_dir);
  if (limit <= 0 || static_cast<int64_t>(checkpoints.size()) <= limit) return {};

  const CheckpointPath* just_written = find_by_name(checkpoints, rules.just_written);
  const CheckpointPath* best = find_by_name(checkpoints, rules.best);
  std::vector<std::string> kept;
  if (best) kept.push_back(name_of(best->folder));
  const bool best_alone =
      rules.training_ended && limit == 1 && best && checkpoint_faults(best->folder).empty();
  if (!best_alone) kept.push_back(name_of(most_recent_good(checkpoints, just_written).folder));
  const auto present = just_written ? std::optional(just_written->step) : std::nullopt;

  std::vector<fs::path> removed;
  for (const CheckpointPath& old : checkpoints_to_remove(checkpoints, limit, kept, present)) {
    try {
      detail::remove_checkpoint(old.folder);
      removed.push_back(old.folder);
    } catch (const Error& error) {  // a full disk will tell; training need not end for it
      log_warning(error.what());
    }
  }
  return removed;
}

}  // namespace tendril
