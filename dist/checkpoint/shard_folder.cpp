#include <tendril/dist/checkpoint/shard_folder.h>

#include <algorithm>
#include <string>
#include <system_error>
#include <vector>

#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/core/log.h>
#include <tendril/dist/checkpoint/shard_file.h>
#include <tendril/dist/checkpoint/shard_name.h>

namespace tendril::dist::shards {
namespace fs = std::filesystem;
namespace {

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error))
    names.push_back(entry->path().filename().string());
  TENDRIL_CHECK(!error, "cannot read folder ", folder.string(), ": ", error.message());
  return names;
}

// Of the checkpoint that is there now; an empty one when there is none.
Manifest present_manifest(const fs::path& folder) {
  const std::string path = (folder / kManifestName).string();
  if (!fs::exists(fs::symlink_status(path))) return {};
  try {
    return Manifest::parse(read_text_file(path), path);
  } catch (const Error& error) {
    fail(
        "the folder holds no whole sharded checkpoint, so nothing is written into it; choose "
        "another, or remove ",
        path, " (", error.what(), ")");
  }
}

// Shards that `manifest` does not name, and files that never got their names.
void remove_others(const fs::path& folder, const Manifest& manifest) {
  for (const std::string& name : names_in(folder)) {
    if (!is_unfinished(name) && (!save_number(name) || manifest.files.contains(name))) continue;
    std::error_code error;
    fs::remove(folder / name, error);
    if (error)
      log_warning("[save_sharded] cannot remove ", (folder / name).string(), ": ", error.message());
  }
}

}  // namespace

int64_t prepare_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  TENDRIL_CHECK(!error, "cannot make folder ", folder.string(), ": ", error.message());
  const Manifest present = present_manifest(folder);
  int64_t next = 0;
  for (const std::string& name : names_in(folder))
    next = std::max(next, save_number(name).value_or(-1) + 1);
  remove_others(folder, present);
  return next;
}

void publish(const fs::path& folder, const Manifest& manifest) {
  // Ranks may be on machines of which each sees a disk of its own under this name.
  for (const auto& [name, record] : manifest.files) check_shard(folder / name, record, false);
  write_text_file((folder / kManifestName).string(), manifest.text());
  try {
    remove_others(folder, manifest);
  } catch (const Error& error) {  // the checkpoint is whole
    log_warning("[save_sharded] ", error.what());
  }
}

bool is_published(const fs::path& folder, const Manifest& manifest) try {
  return read_text_file((folder / kManifestName).string()) == manifest.text();
} catch (const Error&) {
  return false;
}

}  // namespace tendril::dist::shards
