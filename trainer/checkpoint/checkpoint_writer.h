// Writing a checkpoint such that a kill, a full disk or a power cut at any instant leaves either
// the whole new checkpoint under its name or what was there before.
//
//   CheckpointWriter writer(output_dir / "checkpoint-500");
//   model.save_pretrained(writer.folder());
//   writer.tensors("optimizer.safetensors", optimizer.state_dict());
//   writer.text("trainer_state.json", state.to_json_string());
//   writer.commit();
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include <tendril/core/named_tensor.h>

namespace tendril {

namespace detail {
class PartialFolder;
}

/// Files go to a hidden folder beside the checkpoint; commit() checksums them (manifest.json),
/// syncs everything and gives the folder its name. Without commit() the hidden folder goes away
/// with the writer. What killed processes left behind in the parent folder is removed by the next
/// writer there; the folders of living ones, in this process or another, are not (see
/// partial_folder.h).
class TENDRIL_API CheckpointWriter {
 public:
  /// Makes the parent folder where it is missing. `final_folder` may be an older checkpoint: it
  /// stays as it is until commit() puts the new one in its place, in one step where the file system
  /// can exchange names (ext4, xfs, btrfs, tmpfs; not NFS, where a kill between two renames can
  /// leave neither under the name). Error with path and reason, as from every function here.
  explicit CheckpointWriter(const std::filesystem::path& final_folder);
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Where code that writes files itself puts them, subfolders too; until commit().
  const std::filesystem::path& folder() const;
  /// A file of this text; `name` may have folders in it ("callbacks/early_stopping.json").
  void text(const std::string& name, std::string_view content);
  /// A safetensors file.
  void tensors(const std::string& name, const StateDict& tensors,
               const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
  /// Nothing can be added afterwards.
  void commit();

 private:
  std::string file(const std::string& name) const;

  std::filesystem::path final_folder_;
  std::unique_ptr<detail::PartialFolder> partial_;  // null after commit()
};

}  // namespace tendril
