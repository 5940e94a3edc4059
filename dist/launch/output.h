// The output of children, line by line: to the launcher's own with a mark, and into files.
#pragma once

#include <functional>
#include <string>

namespace tendril::launch {

/// Turns a line, its newline included, into what is printed.
using MarkLine = std::function<std::string(const std::string& line)>;

/// One stream of a child, read through a pipe.
class OutputStream {
 public:
  /// `target` is the descriptor that marked lines go to. `log_file`, if it is not empty, gets the
  /// bytes as they are. Error when it cannot be written.
  OutputStream(int target, MarkLine mark, const std::string& log_file);
  ~OutputStream();
  OutputStream(const OutputStream&) = delete;
  OutputStream& operator=(const OutputStream&) = delete;

  int read_end() const { return read_; }
  int write_end() const { return write_; }
  void close_write_end();
  bool is_open() const { return read_ >= 0; }
  /// Takes what is there without waiting. At the end of the stream it closes, and writes out a last
  /// line that has no newline.
  void pump();
  /// What is there, and then the end, although somebody may still hold the other end.
  void finish();

 private:
  void write_lines();
  void close_read_end();

  int target_, log_ = -1, read_ = -1, write_ = -1;
  MarkLine mark_;
  std::string pending_;
};

/// "[1,3]<stdout>:text" of mpirun --tag-output as "[3] text", or "text" without the mark.
std::string retagged(const std::string& line, bool keep_mark);

}  // namespace tendril::launch
