// Private to dist: the names of a sharded checkpoint's files.
//
// The first save into a folder writes shard-00000-of-00004.safetensors. The save after it writes
// shard-00000-of-00004-1.safetensors, and so on: files of the checkpoint that is there are never
// written over, so it stays whole until the new manifest takes the old one's place.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <tendril/core/api.h>

namespace tendril::dist::shards {

std::string shard_name(int rank, int ranks, int64_t save);

/// The number of the save that wrote a file of this name; nullopt for other names, so for
/// everything that leads out of the folder.
TENDRIL_API std::optional<int64_t> save_number(std::string_view name);

/// Whether it is the name of a shard or a manifest that was never completed (core/file.h).
bool is_unfinished(std::string_view name);

}  // namespace tendril::dist::shards
