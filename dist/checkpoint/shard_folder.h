// Private to dist: what rank 0 does to the folder of a sharded checkpoint. One save at a time.
// Errors are without the operation's name in front: the caller puts the rank there.
#pragma once

#include <cstdint>
#include <filesystem>

#include <tendril/dist/checkpoint/manifest.h>

namespace tendril::dist::shards {

/// Makes the folder, removes what unfinished saves have left, and returns the number of the next
/// save: no file of it is there. Error for a folder that belongs to something else.
int64_t prepare_folder(const std::filesystem::path& folder);

/// From here on the folder is this checkpoint. All files are there and synced; those of the
/// checkpoint before are removed afterwards. Error when it could not be done: see is_published().
void publish(const std::filesystem::path& folder, const Manifest& manifest);

/// Whether the folder is this checkpoint. After an Error of publish() it may be: the new manifest
/// has its name, but the folder could not be synced.
bool is_published(const std::filesystem::path& folder, const Manifest& manifest);

}  // namespace tendril::dist::shards
