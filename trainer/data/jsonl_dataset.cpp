#include <tendril/trainer/data/jsonl_dataset.h>

#include <utility>

#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/trainer/data/index_check.h>
#include <tendril/trainer/data/line_index.h>

namespace tendril {
namespace {

// Runs `body`, saying in an Error of it where it happened; `name` is asked only then.
template <class Name, class Body>
auto at_line(const char* op, const Name& name, const Body& body) {
  try {
    return body();
  } catch (const Error& error) {
    fail("[", op, "] ", name(), ": ", error.what());
  }
}

Json parse_line(std::string_view line) { return Json::parse(line, "this line"); }

// Walks through the files, one mapped at a time.
class JsonlStream : public ExampleStream {
 public:
  JsonlStream(std::vector<std::string> paths, JsonConverter convert)
      : paths_(std::move(paths)), convert_(std::move(convert)) {}

  std::optional<Example> next() override {
    if (!next_line()) return std::nullopt;
    const auto name = [&] { return detail::concat(paths_[path_], ", line ", walk_.line_number()); };
    return at_line("JsonlStreamDataset", name, [&] { return convert_(parse_line(walk_.line())); });
  }

  int64_t skip(int64_t count) override {
    for (int64_t i = 0; i < count; ++i)
      if (!next_line()) return i;
    return count;
  }

 private:
  bool next_line() {
    while (path_ < paths_.size()) {
      if (!file_) {
        file_ = MappedFile::open(paths_[path_]);
        walk_ = LineWalk(file_->text());
      }
      if (walk_.next()) return true;
      file_ = nullptr;
      ++path_;
    }
    return false;
  }

  std::vector<std::string> paths_;
  JsonConverter convert_;
  size_t path_ = 0;  // the file that is open, or comes next
  std::shared_ptr<const MappedFile> file_;
  LineWalk walk_{{}};
};

}  // namespace

JsonlDataset::JsonlDataset(const std::string& path, JsonConverter convert)
    : lines_(std::make_shared<const LineIndex>(path)), convert_(std::move(convert)) {
  TENDRIL_CHECK(convert_, "[JsonlDataset] the converter must not be empty");
}

std::optional<int64_t> JsonlDataset::size() const { return lines_->size(); }

Example JsonlDataset::get(int64_t index) const {
  require_index("JsonlDataset", index, lines_->size());
  return at_line(
      "JsonlDataset", [&] { return lines_->name_of(index); },
      [&] { return convert_(parse_line(lines_->line(index))); });
}

TextLinesDataset::TextLinesDataset(const std::string& path, Tokenizer tokenize)
    : lines_(std::make_shared<const LineIndex>(path)), tokenize_(std::move(tokenize)) {
  TENDRIL_CHECK(tokenize_, "[TextLinesDataset] the tokenizer must not be empty");
}

std::optional<int64_t> TextLinesDataset::size() const { return lines_->size(); }

Example TextLinesDataset::get(int64_t index) const {
  require_index("TextLinesDataset", index, lines_->size());
  std::vector<int64_t> tokens = at_line(
      "TextLinesDataset", [&] { return lines_->name_of(index); },
      [&] { return tokenize_(lines_->line(index)); });
  return {{"input_ids", Tensor::from(tokens, {static_cast<int64_t>(tokens.size())})}};
}

JsonlStreamDataset::JsonlStreamDataset(std::vector<std::string> paths, JsonConverter convert)
    : paths_(std::move(paths)), convert_(std::move(convert)) {
  TENDRIL_CHECK(convert_, "[JsonlStreamDataset] the converter must not be empty");
}

std::unique_ptr<ExampleStream> JsonlStreamDataset::iterate(int64_t) const {
  return std::make_unique<JsonlStream>(paths_, convert_);
}

}  // namespace tendril
