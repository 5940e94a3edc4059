// The lines of a text file, by number or one after the other. The file is mapped, not read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <tendril/core/file.h>

namespace tendril {

/// Walks over the lines of a text that are not blank; "\n" and "\r\n" end a line, the last one need
/// not be ended.
class LineWalk {
 public:
  explicit LineWalk(std::string_view text) : text_(text) {}
  /// False at the end.
  bool next();
  std::string_view line() const { return line_; }
  size_t begin() const { return begin_; }               // of the line in the text
  int64_t line_number() const { return line_number_; }  // from 1, blank lines counted

 private:
  std::string_view text_, line_;
  size_t begin_ = 0, place_ = 0;
  int64_t line_number_ = 0;
};

/// Where each line that is not blank begins: 8 bytes a line.
class LineIndex {
 public:
  explicit LineIndex(const std::string& path);
  int64_t size() const { return static_cast<int64_t>(begins_.size()); }
  std::string_view line(int64_t index) const;
  /// "data.jsonl, line 12", for errors: it counts the lines before.
  std::string name_of(int64_t index) const;

 private:
  std::string path_;
  std::shared_ptr<const MappedFile> file_;
  std::vector<size_t> begins_;
};

}  // namespace tendril
