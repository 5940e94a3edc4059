#include <tendril/trainer/callbacks/reporters/csv.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>

#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/core/log.h>
#include <tendril/trainer/callbacks/reporters/csv_text.h>

namespace tendril {
namespace {

std::string field_text(const Json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.as_string() : value.dump();
}

std::optional<int64_t> to_step(const std::string& field) {
  int64_t step = 0;
  const char* end = field.data() + field.size();
  const auto result = std::from_chars(field.data(), end, step);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return step;
}

}  // namespace

void CsvReporter::begin(const CallbackContext& context) {
  file_.reset();
  columns_ = {"step"};
  std::vector<Record> records;
  const int64_t step = context.state.global_step;
  if (step > 0 && std::filesystem::exists(path_)) {
    records = read(step);
  } else if (step > 0) {
    for (const Json& row : context.state.log_history) {
      add_columns(row);
      records.push_back(record_of(row));
    }
  }
  rewrite(records);
}

void CsvReporter::write_row(const CallbackContext&, const Json& row) {
  const auto everything = std::numeric_limits<int64_t>::max();
  std::vector<Record> records;
  const bool first = !file_;
  if (first) {  // a row outside of training: it joins what is there
    columns_ = {"step"};
    records = read(everything);
  }
  if (add_columns(row) || first) {
    if (!first) records = read(everything);
    rewrite(records);
  }
  file_->write(csv_line(record_of(row)));
}

// Takes the file's columns, and then those that are new since.
std::vector<CsvReporter::Record> CsvReporter::read(int64_t last_step) {
  std::vector<Record> records = parse_csv(text_if_exists(path_));
  if (records.empty()) return records;
  Record header = std::move(records.front());
  records.erase(records.begin());
  const auto step = std::find(header.begin(), header.end(), "step");
  TENDRIL_CHECK(step != header.end(), "[csv] ", path_,
                " is not a log of this reporter: it has no column step; move it away");
  const auto step_column = static_cast<size_t>(step - header.begin());
  int64_t unreadable = 0;
  std::erase_if(records, [&](const Record& record) {
    // A kill may leave half a line behind.
    const bool whole = record.size() == header.size();
    const std::optional<int64_t> at = whole ? to_step(record[step_column]) : std::nullopt;
    unreadable += !at;
    return !at || *at > last_step;
  });
  if (unreadable > 0)
    log_warning("[csv] dropped ", unreadable, " lines of ", path_, " that are no log rows");
  for (const std::string& column : columns_)
    if (std::find(header.begin(), header.end(), column) == header.end()) header.push_back(column);
  columns_ = std::move(header);
  return records;
}

void CsvReporter::rewrite(const std::vector<Record>& records) {
  file_.reset();
  make_folders(std::filesystem::path(path_).parent_path().string());
  AtomicFile whole(path_);
  whole.write(csv_line(columns_));
  for (Record record : records) {
    record.resize(columns_.size());  // new columns are at the right
    whole.write(csv_line(record));
  }
  whole.commit();
  file_ = std::make_unique<AppendFile>(path_);
}

bool CsvReporter::add_columns(const Json& row) {
  const size_t before = columns_.size();
  for (const auto& [key, value] : row.members())
    if (std::find(columns_.begin(), columns_.end(), key) == columns_.end()) columns_.push_back(key);
  return columns_.size() > before;
}

CsvReporter::Record CsvReporter::record_of(const Json& row) const {
  Record record;
  for (const std::string& column : columns_) {
    const Json* value = row.find(column);
    record.push_back(value ? field_text(*value) : "");
  }
  return record;
}

}  // namespace tendril
