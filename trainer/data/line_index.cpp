#include <tendril/trainer/data/line_index.h>

#include <algorithm>

#include <tendril/core/error.h>

namespace tendril {

bool LineWalk::next() {
  while (place_ < text_.size()) {
    begin_ = place_;
    const size_t end = std::min(text_.find('\n', place_), text_.size());  // npos is the largest
    place_ = std::min(end + 1, text_.size());
    ++line_number_;
    line_ = text_.substr(begin_, end - begin_);
    if (line_.ends_with('\r')) line_.remove_suffix(1);
    if (line_.find_first_not_of(" \t\r") != std::string_view::npos) return true;
  }
  line_ = {};
  return false;
}

LineIndex::LineIndex(const std::string& path) : path_(path), file_(MappedFile::open(path)) {
  for (LineWalk walk(file_->text()); walk.next();) begins_.push_back(walk.begin());
}

std::string_view LineIndex::line(int64_t index) const {
  LineWalk walk(file_->text().substr(begins_[static_cast<size_t>(index)]));
  walk.next();
  return walk.line();
}

std::string LineIndex::name_of(int64_t index) const {
  const std::string_view before = file_->text().substr(0, begins_[static_cast<size_t>(index)]);
  return detail::concat(path_, ", line ", 1 + std::count(before.begin(), before.end(), '\n'));
}

}  // namespace tendril
