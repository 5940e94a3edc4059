// merge_sharded(): one safetensors file from all pieces.
#include <tendril/core/error.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/safetensors_writer.h>
#include <tendril/dist/sharded_checkpoint.h>

namespace tendril::dist {
namespace {

bool is_same_file(const std::filesystem::path& a, const std::filesystem::path& b) {
  std::error_code missing;
  return std::filesystem::equivalent(a, b, missing) && !missing;
}

}  // namespace

void merge_sharded(const std::filesystem::path& folder, const std::filesystem::path& file,
                   std::optional<DType> dtype, const std::string& prefix) {
  TENDRIL_CHECK(!dtype || is_floating(*dtype), "[merge_sharded] ", *dtype,
                " is no floating-point dtype; f32, bf16, f16 and f64 are");
  const ShardedCheckpoint checkpoint = ShardedCheckpoint::open(folder);
  std::vector<SafetensorsWriter::Entry> entries;
  for (const auto& [name, stored] : checkpoint.tensors()) {
    if (!name.starts_with(prefix)) continue;
    TENDRIL_CHECK(name.size() > prefix.size(), "[merge_sharded] without the prefix \"", prefix,
                  "\" nothing remains of the name of tensor ", name);
    const bool converts = dtype && is_floating(stored.dtype);
    entries.push_back({name.substr(prefix.size()), converts ? *dtype : stored.dtype, stored.shape});
  }
  TENDRIL_CHECK(!entries.empty(), "[merge_sharded] ", folder.string(), " has ",
                checkpoint.tensors().size(), " tensors, none of which begins with \"", prefix,
                "\"");
  for (const auto& [name, stored] : checkpoint.tensors())
    for (const StoredTensor::Rows& rows : stored.rows)
      TENDRIL_CHECK(!is_same_file(folder / rows.file, file), "[merge_sharded] ", file.string(),
                    " is a shard of the checkpoint itself; choose another name");
  SafetensorsWriter writer(file.string(), std::move(entries));
  for (const auto& entry : writer.entries()) {
    const std::string name = prefix + entry.name;
    for (const StoredTensor::Rows& rows : checkpoint.tensors().at(name).rows)
      writer.write(ops::cast(checkpoint.read(name, rows.begin, rows.end), entry.dtype));
  }
  writer.commit();
}

}  // namespace tendril::dist
