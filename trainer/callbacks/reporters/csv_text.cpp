#include <tendril/trainer/callbacks/reporters/csv_text.h>

namespace tendril {
namespace {

std::string quoted(const std::string& field) {
  if (field.find_first_of(",\"\r\n") == std::string::npos) return field;
  std::string result = "\"";
  for (const char c : field) result.append(c == '"' ? 2 : 1, c);
  return result + '"';
}

}  // namespace

std::string csv_line(const std::vector<std::string>& fields) {
  std::string line;
  for (size_t i = 0; i < fields.size(); ++i) {
    if (i > 0) line += ',';
    line += quoted(fields[i]);
  }
  return line + "\n";
}

std::vector<std::vector<std::string>> parse_csv(std::string_view text) {
  std::vector<std::vector<std::string>> records;
  std::vector<std::string> record(1);
  bool in_quotes = false, begun = false;  // begun: the record has at least a character
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool next_is_quote = i + 1 < text.size() && text[i + 1] == '"';
    if (in_quotes && c == '"' && next_is_quote) {
      record.back() += text[++i];
    } else if (c == '"') {
      in_quotes = !in_quotes;
      begun = true;
    } else if (in_quotes) {
      record.back() += c;
    } else if (c == ',') {
      record.emplace_back();
      begun = true;
    } else if (c == '\n') {
      records.push_back(std::move(record));
      record.assign(1, "");
      begun = false;
    } else if (c != '\r') {
      record.back() += c;
      begun = true;
    }
  }
  if (begun) records.push_back(std::move(record));
  return records;
}

}  // namespace tendril
