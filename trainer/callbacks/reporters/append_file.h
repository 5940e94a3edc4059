// A file that grows at its end, for logs.
#pragma once

#include <string>
#include <string_view>

#include <tendril/core/api.h>

namespace tendril {

class TENDRIL_API AppendFile {
 public:
  enum class Mode { append, create_new };

  /// Makes the folders above `path`. Error when the file cannot be opened, or with create_new
  /// exists.
  explicit AppendFile(std::string path, Mode mode = Mode::append);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  /// Hands all of `bytes` to the system at once: a kill of this process afterwards loses nothing.
  void write(std::string_view bytes);
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
};

/// Error, naming the folder, when it is not there and cannot be made.
TENDRIL_API void make_folders(const std::string& folder);

/// The file's text, or "" where there is none.
TENDRIL_API std::string text_if_exists(const std::string& path);

}  // namespace tendril
