#include <tendril/trainer/checkpoint/partial_folder.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/core/log.h>
#include <tendril/core/name_pattern.h>

namespace tendril::detail {
namespace fs = std::filesystem;
namespace {

// Never used before by this process; a killed one with the same process id may have left it.
fs::path partial_name(const fs::path& target) {
  static std::atomic<uint64_t> counter{0};
  return target.parent_path() /
         concat(".", target.filename().string(), ".partial-", ::getpid(), "-", counter++);
}

bool is_partial_name(const std::string& name) {
  static const NamePattern kPartial("checkpoint", R"(\..+\.partial-\d+-\d+)");
  return kPartial.matches(name);
}

std::string folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path().string() : ".";
}

// Others may be removing the same folder: what counts is that it is gone.
void remove_or_warn(const fs::path& folder) {
  std::error_code error, ignored;
  fs::remove_all(folder, error);
  if (error && fs::exists(fs::symlink_status(folder, ignored)))
    log_warning("[checkpoint] cannot remove ", folder.string(), ": ", error.message());
}

// Renames to a partial name that nobody has. Returns errno, or 0.
int step_aside(const fs::path& folder, fs::path& aside) {
  do {
    aside = partial_name(folder);
    if (::rename(folder.c_str(), aside.c_str()) == 0) return 0;
  } while (errno == ENOTEMPTY || errno == EEXIST);
  return errno;
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder) {
  descriptor_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (descriptor_ < 0) {
    state_ = errno == ENOENT ? State::gone : State::impossible;
    return;
  }
  int locked;
  do locked = ::flock(descriptor_, LOCK_EX | LOCK_NB);
  while (locked != 0 && errno == EINTR);
  if (locked != 0) {
    state_ = errno == EWOULDBLOCK ? State::held_elsewhere : State::impossible;
    return;
  }
  // Between opening and locking the folder may have been removed, or replaced under its name.
  struct stat held, named;
  const bool same = ::fstat(descriptor_, &held) == 0 && ::stat(folder.c_str(), &named) == 0 &&
                    held.st_dev == named.st_dev && held.st_ino == named.st_ino;
  state_ = same ? State::ours : State::gone;
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

PartialFolder::PartialFolder(fs::path target) : target_(std::move(target)) {
  for (;;) {
    path_ = partial_name(target_);
    if (::mkdir(path_.c_str(), 0777) != 0) {
      if (errno == EEXIST) continue;
      fail("[checkpoint] cannot make folder ", path_.string(), ": ", system_message(errno));
    }
    lock_ = std::make_unique<FolderLock>(path_);
    const FolderLock::State state = lock_->state();
    if (state == FolderLock::State::ours || state == FolderLock::State::impossible) return;
    // In the moment before the lock another process took the folder for one left behind.
  }
}

PartialFolder::~PartialFolder() {
  if (!path_.empty()) remove_or_warn(path_);
}

void PartialFolder::publish() {
  fs::path old;
  // A rename replaces nothing, or an empty folder; what else may be there is exchanged.
  if (::rename(path_.c_str(), target_.c_str()) != 0) {
    TENDRIL_CHECK(errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR,
                  "[checkpoint] cannot rename ", path_.string(), " to ", target_.string(), ": ",
                  system_message(errno));
    old = replace_folder(path_, target_);
  }
  path_.clear();  // from here on it is not ours to remove
  sync_folder(folder_of(target_));
  // Only now is the new one safe from a power cut, and the old one needed no more.
  if (!old.empty()) remove_or_warn(old);
}

fs::path replace_folder(const fs::path& from, const fs::path& to, bool may_exchange) {
#ifdef RENAME_EXCHANGE
  if (may_exchange) {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0)
      return from;
    TENDRIL_CHECK(errno == EINVAL || errno == ENOSYS || errno == ENOTSUP,
                  "[checkpoint] cannot exchange ", from.string(), " and ", to.string(), ": ",
                  system_message(errno));
  }
#endif
  const FolderLock lock(to);  // the old folder must last until the new one has its name
  fs::path aside;
  if (const int error = step_aside(to, aside))
    fail("[checkpoint] cannot rename ", to.string(), ": ", system_message(error));
  if (::rename(from.c_str(), to.c_str()) != 0) {
    const int error = errno;
    const bool restored = ::rename(aside.c_str(), to.c_str()) == 0;
    fail("[checkpoint] cannot rename ", from.string(), " to ", to.string(), ": ",
         system_message(error),
         restored ? "" : "; the folder that had this name is now " + aside.string());
  }
  return aside;
}

void remove_checkpoint(const fs::path& folder) {
  const FolderLock lock(folder);  // while it lasts no writer elsewhere removes the same files
  fs::path aside;
  const int error = step_aside(folder, aside);
  if (error == ENOENT) return;
  TENDRIL_CHECK(error == 0, "[checkpoint] cannot remove ", folder.string(), ": ",
                system_message(error));
  // The name goes before the files do, after a power cut too.
  sync_folder(folder_of(folder));
  remove_or_warn(aside);
}

void remove_left_behind(const fs::path& parent) {
  std::error_code error;
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end;
       entry.increment(error)) {
    if (!is_partial_name(entry->path().filename().string())) continue;
    const FolderLock lock(entry->path());
    if (lock.state() == FolderLock::State::ours) remove_or_warn(entry->path());
  }
  if (error)
    log_warning("[checkpoint] cannot look for unfinished checkpoints in ", parent.string(), ": ",
                error.message());
}

}  // namespace tendril::detail
