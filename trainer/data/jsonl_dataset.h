// Datasets over text files with one example a line: JSON ("JSONL") or plain text. Blank lines are
// passed over, LF and CRLF end a line. Files are mapped, not read; an error names file and line.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <tendril/core/json.h>
#include <tendril/trainer/data/dataset.h>

namespace tendril {

class LineIndex;

/// From a line's value to an example; loader threads call it at the same time.
using JsonConverter = std::function<Example(const Json&)>;

/// What is done without a converter: the value must be an object of numbers, (), and arrays of
/// numbers, nested to any regular shape, (N, ...). They become i64 where all are whole numbers
/// written without fraction and exponent, else f32. Error for anything else (strings, booleans,
/// null, arrays of unequal length) and for numbers that do not fit.
TENDRIL_API Example example_from_json(const Json& object);

/// One JSON value a line, by number. Opening the file finds its lines; get() parses one.
class TENDRIL_API JsonlDataset : public Dataset {
 public:
  explicit JsonlDataset(const std::string& path, JsonConverter convert = example_from_json);
  std::optional<int64_t> size() const override;
  Example get(int64_t index) const override;

 private:
  std::shared_ptr<const LineIndex> lines_;
  JsonConverter convert_;
};

/// A line of text to token ids; loader threads call it at the same time.
using Tokenizer = std::function<std::vector<int64_t>(std::string_view line)>;

/// One text a line, by number: {"input_ids": i64 (T_i)}.
class TENDRIL_API TextLinesDataset : public Dataset {
 public:
  TextLinesDataset(const std::string& path, Tokenizer tokenize);
  std::optional<int64_t> size() const override;
  Example get(int64_t index) const override;

 private:
  std::shared_ptr<const LineIndex> lines_;
  Tokenizer tokenize_;
};

/// One JSON value a line, one after the other through several files: for what is too long to find
/// all lines of first. Every pass has the order of the files. Skipping parses nothing.
class TENDRIL_API JsonlStreamDataset : public IterableDataset {
 public:
  /// Files are opened when a pass comes to them.
  explicit JsonlStreamDataset(std::vector<std::string> paths,
                              JsonConverter convert = example_from_json);
  std::unique_ptr<ExampleStream> iterate(int64_t epoch) const override;

 private:
  std::vector<std::string> paths_;
  JsonConverter convert_;
};

}  // namespace tendril
