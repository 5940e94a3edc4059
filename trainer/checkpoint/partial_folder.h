// Folders that are no checkpoint yet, or no longer: ".checkpoint-500.partial-<process>-<number>",
// beside the checkpoint. Nobody takes such a name for a checkpoint, so a kill at any instant leaves
// no half one.
//
// Who finds one can tell a living process's from one left behind: the writer holds a lock (flock)
// on the folder itself, which the kernel drops when the process ends, however it ends. Where a file
// system cannot lock folders (NFS) nothing is taken for left behind. Where one keeps locks per
// machine the machines need output folders of their own.
#pragma once

#include <filesystem>
#include <memory>

#include <tendril/core/api.h>

namespace tendril::detail {

/// An exclusive lock on a folder, as long as the object lives; it stays through renames.
class FolderLock {
 public:
  enum class State { ours, held_elsewhere, impossible, gone };

  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  State state() const { return state_; }

 private:
  int descriptor_ = -1;
  State state_ = State::gone;
};

/// A folder being filled; it is removed with the object unless it was published.
class PartialFolder {
 public:
  /// Makes an empty one beside `target`, whose parent folder exists. Error when it cannot be made.
  explicit PartialFolder(std::filesystem::path target);
  ~PartialFolder();
  PartialFolder(const PartialFolder&) = delete;
  PartialFolder& operator=(const PartialFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Gives it the target's name, in exchange for what has that name now, which is removed. What is
  /// in the folder has been synced.
  void publish();

 private:
  std::filesystem::path target_, path_;
  std::unique_ptr<FolderLock> lock_;
};

/// Gives the folder `from` the name `to`, which exists; returns where the old `to` is now. Where
/// the file system can exchange two names this is one step. Where it cannot (`may_exchange` false,
/// for tests) the old folder steps aside first: a kill in the microsecond between the two renames
/// leaves neither under its name, and resuming falls back to the checkpoint before.
TENDRIL_API std::filesystem::path replace_folder(const std::filesystem::path& from,
                                                 const std::filesystem::path& to,
                                                 bool may_exchange = true);

/// Removes a checkpoint such that a kill in the middle leaves nothing that looks like one.
TENDRIL_API void remove_checkpoint(const std::filesystem::path& folder);

/// Removes the partial folders in `parent` whose process has ended. What cannot be removed is a
/// warning, not an Error.
TENDRIL_API void remove_left_behind(const std::filesystem::path& parent);

}  // namespace tendril::detail
