// Finding checkpoints, and telling whole ones from damaged ones.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <tendril/core/api.h>

namespace tendril {

struct CheckpointPath {
  std::filesystem::path folder;
  int64_t step = 0;  // from its name
};

/// The folders named checkpoint-<number> in `output_dir`, by ascending number; none where it is
/// missing. Numbers beyond 64 bits are no steps. Error when the folder cannot be read.
TENDRIL_API std::vector<CheckpointPath> list_checkpoints(const std::filesystem::path& output_dir);

/// What is wrong with a checkpoint, each with the file's name first: "model.safetensors: missing",
/// "rng_state.json: 90 bytes instead of 100", ... Empty: every file is there, byte for byte. Reads
/// everything. Files that the manifest does not know are nobody's business.
TENDRIL_API std::vector<std::string> checkpoint_faults(const std::filesystem::path& folder);

/// Error that lists all faults.
TENDRIL_API void check_checkpoint(const std::filesystem::path& folder);

using OnRefused = std::function<void(const std::filesystem::path& folder,
                                     const std::vector<std::string>& faults)>;

/// The checkpoint of the highest step that has no faults; those before it in that order go to
/// `on_refused`. Nullopt when there is none, or none without faults: the caller that must not start
/// over silently counts the refusals.
TENDRIL_API std::optional<std::filesystem::path> find_valid_checkpoint(
    const std::filesystem::path& output_dir, const OnRefused& on_refused = {});

}  // namespace tendril
