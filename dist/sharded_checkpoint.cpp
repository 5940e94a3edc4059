#include <tendril/dist/sharded_checkpoint.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/core/ops/copy.h>
#include <tendril/dist/checkpoint/manifest.h>
#include <tendril/dist/checkpoint/shard_file.h>

namespace tendril::dist {
namespace fs = std::filesystem;

struct ShardedCheckpoint::Contents {
  fs::path folder;
  shards::Manifest manifest;
  std::atomic<int64_t> bytes_read{0};

  const StoredTensor& find(const std::string& name) const;
  /// Rows [begin, end), which exist, to `target`.
  void copy_rows(const std::string& name, int64_t begin, int64_t end, char* target);

 private:
  const shards::ShardFile& shard(const std::string& file);

  std::mutex guard_;  // of shards_; several threads may read
  std::map<std::string, std::unique_ptr<shards::ShardFile>> shards_;  // those mapped until now
};

const StoredTensor& ShardedCheckpoint::Contents::find(const std::string& name) const {
  const auto found = manifest.tensors.find(name);
  TENDRIL_CHECK(found != manifest.tensors.end(), "[sharded_checkpoint] ", folder.string(),
                " has no tensor ", name);
  return found->second;
}

const shards::ShardFile& ShardedCheckpoint::Contents::shard(const std::string& file) {
  const std::lock_guard lock(guard_);
  auto& shard = shards_[file];
  if (!shard) shard = std::make_unique<shards::ShardFile>(folder / file, manifest.files.at(file));
  return *shard;
}

void ShardedCheckpoint::Contents::copy_rows(const std::string& name, int64_t begin, int64_t end,
                                            char* target) {
  const StoredTensor& tensor = find(name);
  const int64_t row_bytes = shards::row_bytes(tensor);
  for (const StoredTensor::Rows& rows : tensor.rows) {
    const int64_t from = std::max(begin, rows.begin), to = std::min(end, rows.end);
    if (from >= to || row_bytes == 0) continue;
    const auto bytes = static_cast<size_t>((to - from) * row_bytes);
    const char* source =
        shard(rows.file).rows(name, tensor, rows) + (from - rows.begin) * row_bytes;
    // Any other byte is undefined behaviour in a C++ bool.
    TENDRIL_CHECK(
        tensor.dtype != bool_ ||
            std::all_of(source, source + bytes, [](char byte) { return byte == 0 || byte == 1; }),
        "[sharded_checkpoint] ", (folder / rows.file).string(), ": tensor ", name,
        " of bools has a byte that is neither 0 nor 1");
    std::memcpy(target, source, bytes);
    target += bytes;
    bytes_read += static_cast<int64_t>(bytes);
  }
}

ShardedCheckpoint ShardedCheckpoint::open(const fs::path& folder, bool verify) {
  auto contents = std::make_shared<Contents>();
  contents->folder = folder;
  const std::string path = (folder / shards::kManifestName).string();
  contents->manifest = shards::Manifest::parse(read_text_file(path), path);
  for (const auto& [name, record] : contents->manifest.files)
    shards::check_shard(folder / name, record, verify);
  return ShardedCheckpoint(std::move(contents));
}

const std::map<std::string, StoredTensor>& ShardedCheckpoint::tensors() const {
  return contents_->manifest.tensors;
}

const std::map<std::string, std::string>& ShardedCheckpoint::metadata() const {
  return contents_->manifest.metadata;
}

int64_t ShardedCheckpoint::bytes_read() const { return contents_->bytes_read; }

Tensor ShardedCheckpoint::read(const std::string& name, int64_t begin,
                               std::optional<int64_t> end) const {
  const StoredTensor& stored = contents_->find(name);
  const int64_t rows = shards::row_count(stored.shape);
  const int64_t last = end.value_or(rows);
  TENDRIL_CHECK(begin >= 0 && begin <= last && last <= rows, "[sharded_checkpoint] tensor ", name,
                " of shape ", stored.shape, " has no rows [", begin, ", ", last, ")");
  TENDRIL_CHECK(!stored.shape.empty() || last - begin == 1, "[sharded_checkpoint] tensor ", name,
                " has no axes; it is read whole");
  Tensor result = Tensor::empty(shards::shape_of_rows(stored.shape, last - begin), stored.dtype);
  contents_->copy_rows(name, begin, last, static_cast<char*>(result.raw_data()));
  return result;
}

void ShardedCheckpoint::read_into(const ShardedTensor& target) const {
  const StoredTensor& stored = contents_->find(target.name);
  TENDRIL_CHECK(target.local.defined(), "[sharded_checkpoint] tensor ", target.name,
                " to read into is undefined");
  const Tensor& local = target.local;
  TENDRIL_CHECK(local.dtype() == stored.dtype && target.whole_shape == stored.shape,
                "[sharded_checkpoint] tensor ", target.name, " is stored as ", stored.dtype, " ",
                stored.shape, "; wanted is ", local.dtype(), " ", target.whole_shape);
  const int64_t rows = shards::row_count(local.shape()), begin = target.row_begin;
  TENDRIL_CHECK(local.rank() == stored.shape.rank() &&
                    local.shape() == shards::shape_of_rows(stored.shape, rows) && begin >= 0 &&
                    begin <= shards::row_count(stored.shape) - rows,
                "[sharded_checkpoint] tensor ", target.name, " of shape ", stored.shape,
                " has no rows of shape ", local.shape(), " that begin at ", begin);
  if (local.device().is_cpu() && local.is_contiguous())
    contents_->copy_rows(target.name, begin, begin + rows, static_cast<char*>(local.raw_data()));
  else
    ops::copy(local, read(target.name, begin, begin + rows));
  local.bump_version();
}

}  // namespace tendril::dist
