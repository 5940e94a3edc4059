// Private to dist: a shard on the disk, and what may be wrong with it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <unordered_map>

#include <tendril/core/file.h>
#include <tendril/core/safetensors_header.h>
#include <tendril/dist/checkpoint/manifest.h>

namespace tendril::dist::shards {

/// Error that names the file when it is missing, no file, of another size or, with `verify`, has
/// another checksum, for which all of it is read.
void check_shard(const std::filesystem::path& path, const FileRecord& expected, bool verify);

/// A shard that is mapped: its header has been read, its numbers come in when they are touched.
class ShardFile {
 public:
  ShardFile(const std::filesystem::path& path, const FileRecord& expected);

  /// The numbers of the rows of `tensor` that this file holds, perhaps not aligned. Error unless
  /// the file has exactly these.
  const char* rows(const std::string& name, const StoredTensor& tensor,
                   const StoredTensor::Rows& rows) const;

 private:
  std::string path_;
  std::shared_ptr<MappedFile> file_;
  tendril::detail::SafetensorsHeader header_;
  std::unordered_map<std::string, size_t> index_;  // name -> position in header_.entries
};

}  // namespace tendril::dist::shards
