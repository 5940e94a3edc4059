// Text to values and back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tendril::launch {

// Each is an Error that begins with `where` when the text is no such value.
void read_value(bool& value, const std::string& text, const std::string& where);
void read_value(int64_t& value, const std::string& text, const std::string& where);
void read_value(double& value, const std::string& text, const std::string& where);
void read_value(std::string& value, const std::string& text, const std::string& where);
template <class T>
void read_value(std::optional<T>& value, const std::string& text, const std::string& where) {
  read_value(value.emplace(), text, where);
}

std::string value_text(bool value);
std::string value_text(int64_t value);
std::string value_text(double value);
std::string value_text(const std::string& value);
template <class T>
std::string value_text(const std::optional<T>& value) {
  return value ? value_text(*value) : "";
}

std::string lowercase(std::string text);
std::string uppercase(std::string text);
/// "a,b, c" -> {"a", "b", "c"}; empty parts are left out.
std::vector<std::string> split(const std::string& text, char separator);
std::string join(const std::vector<std::string>& parts, const std::string& separator);

}  // namespace tendril::launch
