#include <tendril/trainer/callbacks/reporters/append_file.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include <tendril/core/error.h>
#include <tendril/core/file.h>

namespace tendril {

AppendFile::AppendFile(std::string path, Mode mode) : path_(std::move(path)) {
  make_folders(std::filesystem::path(path_).parent_path().string());
  const int only_new = mode == Mode::create_new ? O_EXCL : 0;
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | only_new, 0666);
  TENDRIL_CHECK(descriptor_ >= 0, "[reporter] cannot open ", path_, ": ", system_message(errno));
}

AppendFile::~AppendFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void AppendFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    TENDRIL_CHECK(written >= 0, "[reporter] cannot write to ", path_, ": ", system_message(errno));
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

void make_folders(const std::string& folder) {
  if (folder.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  TENDRIL_CHECK(!error, "[reporter] cannot make the folder ", folder, ": ", error.message());
}

std::string text_if_exists(const std::string& path) {
  return std::filesystem::exists(path) ? read_text_file(path) : "";
}

}  // namespace tendril
