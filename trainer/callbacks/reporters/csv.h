// log.csv: a table of the log rows.
#pragma once

#include <memory>

#include <tendril/trainer/callbacks/reporters/append_file.h>
#include <tendril/trainer/callbacks/reporters/reporter.h>

namespace tendril {

/// One line per row under a header of keys, `step` first; empty where a row has no such key. A key
/// that comes later gets a column at the right: the file is then rewritten, in one stroke. Each row
/// is in the file as soon as it is logged.
class TENDRIL_API CsvReporter : public Reporter {
 public:
  explicit CsvReporter(std::string path) : path_(std::move(path)) {}

 protected:
  void begin(const CallbackContext& context) override;
  void write_row(const CallbackContext& context, const Json& row) override;

 private:
  using Record = std::vector<std::string>;

  /// Error when the file's header has no step.
  std::vector<Record> read(int64_t last_step);
  void rewrite(const std::vector<Record>& records);
  bool add_columns(const Json& row);
  Record record_of(const Json& row) const;

  std::string path_;
  Record columns_;
  std::unique_ptr<AppendFile> file_;  // null until the header is on the disk
};

}  // namespace tendril
