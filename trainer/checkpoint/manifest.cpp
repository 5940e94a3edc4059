#include <tendril/trainer/checkpoint/manifest.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <vector>

#include <tendril/core/crc32c.h>
#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/core/json.h>

namespace tendril::detail {
namespace fs = std::filesystem;
namespace {

constexpr const char* kFormat = "tendril checkpoint";
constexpr int64_t kVersion = 1;

std::string hex(uint32_t value) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", value);
  return text;
}

uint32_t from_hex(const std::string& text) {
  uint32_t value = 0;  // a text that is no number fails the comparison of the whole manifest
  std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return value;
}

// Reads with read(), not through a mapping: there a bad sector, or a file that is cut meanwhile,
// would end the process.
class ReadFile {
 public:
  explicit ReadFile(const fs::path& path)
      // Non-blocking: opening a pipe must not wait for its writer before it can be refused.
      : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    struct stat info;
    if (descriptor_ < 0 || ::fstat(descriptor_, &info) != 0) {
      error_ = errno;
    } else {
      regular_ = S_ISREG(info.st_mode);
      bytes_ = info.st_size;
    }
  }
  ~ReadFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  ReadFile(const ReadFile&) = delete;
  ReadFile& operator=(const ReadFile&) = delete;

  int error() const { return error_; }  // errno of the first thing that failed, or 0
  bool regular() const { return regular_; }
  int64_t bytes() const { return bytes_; }  // when it was opened

  /// Of all that can be read until the end, which is `record.bytes`; error() says if it failed.
  FileRecord record() {
    std::vector<char> buffer(std::min(size_t{1} << 20, static_cast<size_t>(bytes_) + 1));
    FileRecord result;
    for (;;) {
      const ssize_t count = ::read(descriptor_, buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) error_ = errno;
      if (count <= 0) return result;
      result.crc32c = crc32c(buffer.data(), static_cast<size_t>(count), result.crc32c);
      result.bytes += count;
    }
  }
  void sync() {
    if (::fsync(descriptor_) != 0 && error_ == 0) error_ = errno;
  }

 private:
  int descriptor_;
  int error_ = 0;
  bool regular_ = false;
  int64_t bytes_ = 0;
};

}  // namespace

std::string Manifest::text() const {
  // Written by hand so that the form is this file's alone, whatever Json::dump() does with spaces.
  std::string text = "{\n  \"format\": " + json_quote(kFormat) +
                     ",\n  \"version\": " + std::to_string(kVersion) + ",\n  \"files\": {";
  const char* separator = "\n    ";
  for (const auto& [name, record] : files) {
    text += separator + json_quote(name) + ": {\"bytes\": " + std::to_string(record.bytes) +
            ", \"crc32c\": \"" + hex(record.crc32c) + "\"}";
    separator = ",\n    ";
  }
  text += files.empty() ? "},\n  " : "\n  },\n  ";
  return text + "\"crc32c\": \"" + hex(crc32c(text.data(), text.size())) + "\"\n}\n";
}

Manifest Manifest::parse(std::string_view text, const std::string& origin) {
  const Json json = Json::parse(text, origin, {.depth = 4});
  TENDRIL_CHECK(json.is_object() && json.find("format") && json.find("version"), "[checkpoint] ",
                origin, " is not the manifest of a Tendril checkpoint");
  const Json& version = json.at("version");
  TENDRIL_CHECK(version.is_integer() && version.as_int() == kVersion, "[checkpoint] ", origin,
                " has format version ", version.dump(), "; this Tendril reads version ", kVersion);
  Manifest result;
  for (const auto& [name, record] : json.at("files").members())
    result.files[name] = {record.at("bytes").as_int(), from_hex(record.at("crc32c").as_string())};
  TENDRIL_CHECK(result.text() == text, "[checkpoint] ", origin,
                " was changed after it was written");
  return result;
}

bool is_inside(const std::string& name) {
  const fs::path path = name;
  return !name.empty() && name.find('\0') == std::string::npos && path.is_relative() &&
         path.has_filename() && path.lexically_normal() == path && *path.begin() != ".." &&
         path != ".";
}

Manifest record_and_sync(const fs::path& folder) try {
  Manifest result;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.symlink_status().type() == fs::file_type::directory) {
      sync_folder(entry.path().string());
      continue;
    }
    TENDRIL_CHECK(entry.symlink_status().type() == fs::file_type::regular, "[checkpoint] ",
                  entry.path().string(),
                  " is neither a file nor a folder; a checkpoint holds nothing else");
    ReadFile file(entry.path());
    FileRecord record;
    if (file.error() == 0) record = file.record();
    if (file.error() == 0) file.sync();
    TENDRIL_CHECK(file.error() == 0, "[checkpoint] cannot read back and sync ",
                  entry.path().string(), ": ", system_message(file.error()));
    result.files[entry.path().lexically_relative(folder).generic_string()] = record;
  }
  return result;
} catch (const fs::filesystem_error& error) {
  fail("[checkpoint] cannot read folder ", folder.string(), ": ", error.code().message());
}

std::string file_fault(const fs::path& path, const FileRecord& expected) {
  const auto size_fault = [&](int64_t bytes) -> std::string {
    return bytes == expected.bytes
               ? ""
               : std::to_string(bytes) + " bytes instead of " + std::to_string(expected.bytes);
  };
  ReadFile file(path);
  if (file.error() == ENOENT || file.error() == ENOTDIR) return "missing";
  if (file.error() == 0 && !file.regular()) return "not a regular file";
  if (file.error() == 0)
    if (const std::string fault = size_fault(file.bytes()); !fault.empty()) return fault;
  FileRecord record;
  if (file.error() == 0) record = file.record();
  if (file.error() != 0) return "cannot be read: " + system_message(file.error());
  if (const std::string fault = size_fault(record.bytes); !fault.empty()) return fault;
  if (record.crc32c == expected.crc32c) return "";
  return "checksum " + hex(record.crc32c) + " instead of " + hex(expected.crc32c);
}

}  // namespace tendril::detail
