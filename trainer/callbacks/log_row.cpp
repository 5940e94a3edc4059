#include <tendril/trainer/callbacks/log_row.h>

#include <charconv>

namespace tendril {
namespace {

// At most `limit` bytes, cut between characters, and on one line.
std::string shortened(std::string text, int64_t limit) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  if (static_cast<int64_t>(text.size()) <= limit) return text;
  auto end = static_cast<size_t>(limit);
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::string value_text(const Json& value, int64_t max_str_len) {
  if (value.is_null()) return "nan";  // what is not finite cannot be said in JSON
  if (value.is_number() && !value.is_integer()) return short_number(value.as_double());
  if (value.is_string()) return shortened(value.as_string(), max_str_len);
  return shortened(value.dump(), max_str_len);
}

}  // namespace

std::string short_number(double value, int digits) {
  char text[64];
  return {text,
          std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits).ptr};
}

std::string log_row_text(const Json& row, int64_t step, int64_t max_steps, int64_t max_str_len) {
  std::string text = "step " + std::to_string(step);
  if (max_steps > 0) text.append("/").append(std::to_string(max_steps));
  for (const auto& [key, value] : row.members())
    if (key != "step" && key != "total_flos")
      text += "  " + key + " " + value_text(value, max_str_len);
  return text;
}

}  // namespace tendril
