#include <tendril/dist/launch/read_value.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <sstream>

#include <tendril/core/error.h>
#include <tendril/core/json.h>

namespace tendril::launch {
namespace {

bool read_number(double& value, const std::string& text) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end && std::isfinite(value);
}

}  // namespace

void read_value(bool& value, const std::string& text, const std::string& where) {
  static const std::set<std::string> kTrue = {"true", "1", "yes", "y", "t", "on"};
  static const std::set<std::string> kFalse = {"false", "0", "no", "n", "f", "off"};
  const std::string word = lowercase(text);
  value = kTrue.contains(word);
  TENDRIL_CHECK(value || kFalse.contains(word), where, " must be true or false; got ",
                json_quote(text));
}

void read_value(int64_t& value, const std::string& text, const std::string& where) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec == std::errc() && result.ptr == end) return;
  constexpr double kExact = 9007199254740992.0;  // 2^53: below, "1e8" names one whole number
  double number = 0.0;
  TENDRIL_CHECK(
      read_number(number, text) && number == std::floor(number) && std::fabs(number) < kExact,
      where, " must be a whole number; got ", json_quote(text));
  value = static_cast<int64_t>(number);
}

void read_value(double& value, const std::string& text, const std::string& where) {
  TENDRIL_CHECK(read_number(value, text), where, " must be a number; got ", json_quote(text));
}

void read_value(std::string& value, const std::string& text, const std::string& where) {
  TENDRIL_CHECK(text.find('\0') == std::string::npos && is_utf8(text), where,
                " must be text in UTF-8");
  value = text;
}

std::string value_text(bool value) { return value ? "true" : "false"; }
std::string value_text(int64_t value) { return std::to_string(value); }
std::string value_text(double value) { return detail::concat(value); }
std::string value_text(const std::string& value) { return value; }

std::string lowercase(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  return text;
}

std::string uppercase(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c -= 'a' - 'A';
  return text;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    const size_t first = part.find_first_not_of(" \t"), last = part.find_last_not_of(" \t");
    if (first != std::string::npos) parts.push_back(part.substr(first, last - first + 1));
  }
  return parts;
}

std::string join(const std::vector<std::string>& parts, const std::string& separator) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) text += (i == 0 ? "" : separator) + parts[i];
  return text;
}

}  // namespace tendril::launch
