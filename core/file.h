// Files: read-only mapping, and writing such that a reader sees the old file or the new one, never
// half.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include <tendril/core/api.h>

namespace tendril {

/// What the system says of a value of errno.
TENDRIL_API std::string system_message(int error);

/// The bytes of a regular file in memory. The mapping is private: a change in memory (of a tensor
/// that views it) never reaches the file. Truncating the file while it is mapped is the one thing
/// that cannot be caught; replacing it by rename, as AtomicFile does, is safe.
class TENDRIL_API MappedFile {
 public:
  /// Error when `path` is not a readable regular file.
  static std::shared_ptr<MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  char* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view text() const { return {data_, size_}; }

 private:
  MappedFile() = default;
  char* data_ = nullptr;
  size_t size_ = 0;
};

/// A new file that takes its name only when it is complete and on the disk: it is written beside
/// `path`, synced, renamed, and the folder is synced. Without commit() nothing remains.
class TENDRIL_API AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Error (disk full, quota, ...) when not every byte could be written.
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  [[noreturn]] void fail_with_errno(const char* action) const;

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
};

/// Makes the names in a folder (files that appeared, were renamed or removed) survive a power cut,
/// where the file system can. Error when syncing fails, not when the file system has no such thing.
TENDRIL_API void sync_folder(const std::string& folder);

/// The whole file as text; Error when it cannot be read.
TENDRIL_API std::string read_text_file(const std::string& path);
/// Writes through an AtomicFile.
TENDRIL_API void write_text_file(const std::string& path, std::string_view text);

}  // namespace tendril
