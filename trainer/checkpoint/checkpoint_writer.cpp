#include <tendril/trainer/checkpoint/checkpoint_writer.h>

#include <system_error>

#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/core/safetensors.h>
#include <tendril/trainer/checkpoint/manifest.h>
#include <tendril/trainer/checkpoint/partial_folder.h>

namespace tendril {
namespace fs = std::filesystem;
namespace {

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  TENDRIL_CHECK(!error, "[checkpoint] cannot make folder ", folder.string(), ": ", error.message());
}

// Without a slash at the end: what follows needs its last name and the folder it is in.
fs::path without_slash(const fs::path& folder) {
  fs::path path = folder.lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  const fs::path name = path.filename();
  TENDRIL_CHECK(!name.empty() && name != "." && name != "..", "[checkpoint] \"", folder.string(),
                "\" cannot be a checkpoint's folder; give it a name, like checkpoint-500");
  return path.has_parent_path() ? path : "." / path;
}

}  // namespace

CheckpointWriter::CheckpointWriter(const fs::path& final_folder)
    : final_folder_(without_slash(final_folder)) {
  std::error_code ignored;
  TENDRIL_CHECK(!fs::exists(final_folder_, ignored) || fs::is_directory(final_folder_, ignored),
                "[checkpoint] ", final_folder_.string(), " is there and is not a folder");
  make_folders(final_folder_.parent_path());
  detail::remove_left_behind(final_folder_.parent_path());
  partial_ = std::make_unique<detail::PartialFolder>(final_folder_);
}

CheckpointWriter::~CheckpointWriter() = default;

const fs::path& CheckpointWriter::folder() const {
  TENDRIL_CHECK(partial_, "[checkpoint] ", final_folder_.string(),
                " was committed; nothing can be added");
  return partial_->path();
}

std::string CheckpointWriter::file(const std::string& name) const {
  TENDRIL_CHECK(
      detail::is_inside(name) && name != detail::kManifestName,
      "[checkpoint] a file's name must be a relative path inside the checkpoint, and not ",
      detail::kManifestName, "; got \"", name, "\"");
  const fs::path path = folder() / name;
  make_folders(path.parent_path());
  return path.string();
}

void CheckpointWriter::text(const std::string& name, std::string_view content) {
  write_text_file(file(name), content);
}

void CheckpointWriter::tensors(const std::string& name, const StateDict& tensors,
                               const std::map<std::string, std::string>& metadata) {
  save_safetensors(file(name), tensors, metadata);
}

void CheckpointWriter::commit() {
  const fs::path manifest = folder() / detail::kManifestName;
  TENDRIL_CHECK(!fs::exists(fs::symlink_status(manifest)), "[checkpoint] ", manifest.string(),
                " is the manifest's name; the file there needs another one");
  // The manifest last, synced with the folder's names: where it is, everything it lists is too.
  write_text_file(manifest.string(), detail::record_and_sync(folder()).text());
  partial_->publish();
  partial_.reset();
}

}  // namespace tendril
