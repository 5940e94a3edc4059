#include <tendril/dist/checkpoint/shard_file.h>

#include <fstream>
#include <system_error>
#include <vector>

#include <tendril/core/crc32c.h>
#include <tendril/core/error.h>

namespace tendril::dist::shards {
namespace fs = std::filesystem;
namespace {

// Reads with read(), not through a mapping: there a bad sector would end the process.
uint32_t checksum_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> buffer(size_t{1} << 20);
  uint32_t crc = 0;
  while (file) {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    crc = crc32c(buffer.data(), static_cast<size_t>(file.gcount()), crc);
  }
  TENDRIL_CHECK(file.eof(), "[sharded_checkpoint] cannot read ", path.string());
  return crc;
}

void check_size(const fs::path& path, int64_t bytes, const FileRecord& expected) {
  TENDRIL_CHECK(bytes == expected.bytes, "[sharded_checkpoint] ", path.string(), " has ", bytes,
                " bytes; the manifest says ", expected.bytes);
}

}  // namespace

void check_shard(const fs::path& path, const FileRecord& expected, bool verify) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  TENDRIL_CHECK(status.type() != fs::file_type::not_found, "[sharded_checkpoint] ", path.string(),
                " is missing");
  TENDRIL_CHECK(fs::is_regular_file(status), "[sharded_checkpoint] ", path.string(),
                " is not a regular file");
  const auto bytes = static_cast<int64_t>(fs::file_size(path, error));
  TENDRIL_CHECK(!error, "[sharded_checkpoint] cannot inspect ", path.string(), ": ",
                error.message());
  check_size(path, bytes, expected);
  TENDRIL_CHECK(!verify || checksum_of(path) == expected.crc32c, "[sharded_checkpoint] ",
                path.string(), " is damaged: its checksum is not that of the manifest");
}

ShardFile::ShardFile(const fs::path& path, const FileRecord& expected)
    : path_(path.string()), file_(MappedFile::open(path_)) {
  check_size(path, static_cast<int64_t>(file_->size()), expected);
  header_ = tendril::detail::parse_safetensors_header(file_->text(), path_);
  for (size_t i = 0; i < header_.entries.size(); ++i) index_.emplace(header_.entries[i].name, i);
}

const char* ShardFile::rows(const std::string& name, const StoredTensor& tensor,
                            const StoredTensor::Rows& rows) const {
  const auto found = index_.find(name);
  TENDRIL_CHECK(found != index_.end(), "[sharded_checkpoint] ", path_, " has no tensor ", name,
                "; the manifest says that it has");
  const auto& entry = header_.entries[found->second];
  const char* type = tendril::detail::safetensors_type_name(tensor.dtype);
  const Shape shape = shape_of_rows(tensor.shape, rows.end - rows.begin);
  // As texts: the header's shape may have more axes than a Shape can.
  TENDRIL_CHECK(entry.type->name == std::string(type) &&
                    entry.shape == std::vector<int64_t>(shape.begin(), shape.end()),
                "[sharded_checkpoint] ", path_, ": tensor ", name, " is not ", type, " ", shape,
                ", as the manifest says");
  return file_->data() + header_.data_start + entry.begin;
}

}  // namespace tendril::dist::shards
