#include <tendril/dist/launch/output.h>

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <regex>

#include <tendril/core/error.h>

namespace tendril::launch {
namespace {

// A line longer than this is written in pieces.
constexpr size_t kLongestLine = 1 << 16;

// What cannot be written (a closed terminal, a full disk) is dropped: the run goes on.
void write_all(int descriptor, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(descriptor, data, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    data += written;
    size -= static_cast<size_t>(written);
  }
}

}  // namespace

OutputStream::OutputStream(int target, MarkLine mark, const std::string& log_file)
    : target_(target), mark_(std::move(mark)) {
  std::array<int, 2> ends{};
  TENDRIL_CHECK(::pipe2(ends.data(), O_CLOEXEC) == 0,
                "[launch] cannot make a pipe: ", std::strerror(errno));
  read_ = ends[0];
  write_ = ends[1];
  ::fcntl(read_, F_SETFL, O_NONBLOCK);
  if (log_file.empty()) return;
  log_ = ::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (log_ >= 0) return;
  const std::string problem = std::strerror(errno);
  close_read_end();
  close_write_end();
  fail("[launch] cannot write ", log_file, ": ", problem);
}

OutputStream::~OutputStream() {
  close_read_end();
  close_write_end();
  if (log_ >= 0) ::close(log_);
}

void OutputStream::close_write_end() {
  if (write_ >= 0) ::close(write_);
  write_ = -1;
}

void OutputStream::close_read_end() {
  if (read_ >= 0) ::close(read_);
  read_ = -1;
}

void OutputStream::pump() {
  std::array<char, 1 << 14> buffer{};
  while (read_ >= 0) {
    const ssize_t count = ::read(read_, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return finish();
    if (log_ >= 0) write_all(log_, buffer.data(), static_cast<size_t>(count));
    pending_.append(buffer.data(), static_cast<size_t>(count));
    write_lines();
  }
}

void OutputStream::finish() {
  if (read_ < 0) return;
  const int descriptor = read_;
  read_ = -1;
  std::array<char, 1 << 14> buffer{};
  for (ssize_t count = 0; (count = ::read(descriptor, buffer.data(), buffer.size())) > 0;) {
    if (log_ >= 0) write_all(log_, buffer.data(), static_cast<size_t>(count));
    pending_.append(buffer.data(), static_cast<size_t>(count));
  }
  ::close(descriptor);
  if (!pending_.empty() && pending_.back() != '\n') pending_ += '\n';
  write_lines();
}

void OutputStream::write_lines() {
  std::string text;
  size_t begin = 0;
  while (begin < pending_.size()) {
    size_t end = pending_.find('\n', begin);
    if (end == std::string::npos) {
      if (pending_.size() - begin < kLongestLine) break;
      end = pending_.size() - 1;
    }
    text += mark_(pending_.substr(begin, end + 1 - begin));
    begin = end + 1;
  }
  pending_.erase(0, begin);
  write_all(target_, text.data(), text.size());  // whole lines at once: ranks do not mix them
}

std::string retagged(const std::string& line, bool keep_mark) {
  static const std::regex kTag(R"(^\[\d+,(\d+)\]<(?:stdout|stderr|stddiag)>:)");
  std::smatch match;
  if (!std::regex_search(line, match, kTag)) return line;
  return (keep_mark ? "[" + match[1].str() + "] " : "") + match.suffix().str();
}

}  // namespace tendril::launch
