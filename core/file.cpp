#include <tendril/core/file.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>

#include <tendril/core/error.h>

namespace tendril {
namespace {

// Closes on every path out of a function; a read-only descriptor has nothing to lose on close.
struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

size_t regular_file_size(int descriptor, const std::string& path) {
  struct stat info;
  TENDRIL_CHECK(::fstat(descriptor, &info) == 0, "[file] cannot inspect ", path, ": ",
                system_message(errno));
  TENDRIL_CHECK(S_ISREG(info.st_mode), "[file] ", path, " is not a regular file");
  return static_cast<size_t>(info.st_size);
}

}  // namespace

std::string system_message(int error) { return std::generic_category().message(error); }

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path) {
  // Non-blocking: opening a pipe must not wait for its writer before it can be refused.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  TENDRIL_CHECK(file.value >= 0, "[file] cannot open ", path, ": ", system_message(errno));
  std::shared_ptr<MappedFile> result(new MappedFile);
  const size_t size = regular_file_size(file.value, path);
  if (size == 0) return result;  // nothing can be mapped
  // Writable but private, so that an in-place operation on a tensor that views the file copies the
  // page instead of crashing; without reserve, since most pages are never written.
  void* data =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file.value, 0);
  TENDRIL_CHECK(data != MAP_FAILED, "[file] cannot map ", path, " (", size,
                " bytes): ", system_message(errno));
  result->data_ = static_cast<char*>(data);
  result->size_ = size;
  TENDRIL_CHECK(regular_file_size(file.value, path) == size, "[file] ", path,
                " changed its size while it was opened");
  return result;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(data_, size_);
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  static std::atomic<uint64_t> counter{0};
  do {  // a name that exists already was left behind by a killed process with our process id
    temporary_ = path_ + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) fail("[file] cannot create ", temporary_, ": ", system_message(errno));
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail_with_errno(const char* action) const {
  fail("[file] cannot ", action, " ", path_, ": ", system_message(errno));
}

void AtomicFile::write(const void* data, size_t bytes) {
  TENDRIL_CHECK(descriptor_ >= 0, "[file] ", path_, " was committed; nothing can be added");
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, next, std::min<size_t>(bytes, size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with_errno("write");
    next += written;
    bytes -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  TENDRIL_CHECK(descriptor_ >= 0, "[file] ", path_, " was committed already");
  // Without the sync a crash may leave the new name with no content.
  if (::fsync(descriptor_) != 0) fail_with_errno("sync");
  const int closed = ::close(descriptor_);
  descriptor_ = -1;  // also after a failed close the descriptor is gone
  if (closed != 0) fail_with_errno("close");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_with_errno("rename a file to");
  temporary_.clear();
  const size_t slash = path_.rfind('/');
  sync_folder(slash == std::string::npos ? "." : path_.substr(0, slash + 1));
}

void sync_folder(const std::string& folder) {
  const Descriptor opened{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  // A folder may be writable but not readable, and some network file systems cannot sync folders:
  // the files themselves are complete then, only the moment of their appearance is not guaranteed.
  if (opened.value < 0 && errno == EACCES) return;
  TENDRIL_CHECK(opened.value >= 0, "[file] cannot open folder ", folder, ": ",
                system_message(errno));
  TENDRIL_CHECK(::fsync(opened.value) == 0 || errno == EINVAL || errno == ENOTSUP,
                "[file] cannot sync folder ", folder, ": ", system_message(errno));
}

std::string read_text_file(const std::string& path) {
  return std::string(MappedFile::open(path)->text());
}

void write_text_file(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace tendril
