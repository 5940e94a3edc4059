// manifest.json: what a checkpoint consists of, so that a folder can be told whole from damaged.
//
//   {
//     "format": "tendril checkpoint",
//     "version": 1,
//     "files": {
//       "model.safetensors": {"bytes": 123, "crc32c": "0a1b2c3d"},
//       ...                                  every file but this one, below the folder, by name
//     },
//     "crc32c": "89abcdef"                   of the text above, up to this member's name
//   }
//
// A text that differs from this form by one byte, even a space, is refused.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include <tendril/core/api.h>

namespace tendril::detail {

inline constexpr const char* kManifestName = "manifest.json";

struct FileRecord {
  int64_t bytes = 0;
  uint32_t crc32c = 0;
};

struct Manifest {
  std::map<std::string, FileRecord> files;  // by path relative to the folder, with '/'

  TENDRIL_API std::string text() const;
  /// Error "[checkpoint] <origin>: ..." unless it is exactly what text() gives.
  TENDRIL_API static Manifest parse(std::string_view text, const std::string& origin);
};

/// Whether `name` is a relative path, in its plainest form, of something below a folder.
bool is_inside(const std::string& name);

/// Records every file below `folder` from what was really written, and syncs files and folders
/// within (not the folder itself). Reading back what was just written comes from memory, mostly.
/// Error when something is neither file nor folder, or cannot be read or synced.
Manifest record_and_sync(const std::filesystem::path& folder);

/// What is wrong with a file, or "": "missing", "7 bytes instead of 9", ... The size comes first:
/// files of the right size alone are read.
std::string file_fault(const std::filesystem::path& file, const FileRecord& expected);

}  // namespace tendril::detail
