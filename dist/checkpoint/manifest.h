// Private to dist: manifest.json of a sharded checkpoint.
//
//   {
//     "format": "tendril sharded checkpoint",
//     "version": 1,
//     "metadata": {"step": "500"},
//     "files": {
//       "shard-00000-of-00002.safetensors": {"bytes": 123, "crc32c": "0a1b2c3d"},
//       ...
//     },
//     "tensors": {
//       "model.wte.weight": {"dtype": "F32", "shape": [256, 64], "pieces": [
//         {"rows": [0, 128], "file": "shard-00000-of-00002.safetensors"}, ...]},
//       ...
//     },
//     "crc32c": "89abcdef"                 of the text above, up to this member's name
//   }
//
// A text that differs from this form by one byte, even a space, is refused.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include <tendril/core/api.h>
#include <tendril/dist/sharded_checkpoint.h>

namespace tendril::dist::shards {

inline constexpr const char* kManifestName = "manifest.json";

struct FileRecord {
  int64_t bytes = 0;
  uint32_t crc32c = 0;
};

struct Manifest {
  std::map<std::string, std::string> metadata;
  std::map<std::string, FileRecord> files;
  std::map<std::string, StoredTensor> tensors;

  TENDRIL_API std::string text() const;
  /// Error that begins with "[sharded_checkpoint] <origin>: " unless it is exactly what text()
  /// gives and all of it holds: names of shards and of nothing else, sizes that fit in 63 bits and
  /// in the files, pieces without gaps and overlaps.
  TENDRIL_API static Manifest parse(std::string_view text, const std::string& origin);
};

/// Length of the first axis; 1 for tensors without axes.
int64_t row_count(const Shape& whole);
/// The shape of `rows` rows of a tensor.
Shape shape_of_rows(const Shape& whole, int64_t rows);
/// Bytes of one row; 0 for tensors without rows.
int64_t row_bytes(const StoredTensor& tensor);

}  // namespace tendril::dist::shards
