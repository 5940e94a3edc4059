#include <tendril/core/json.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include <tendril/core/error.h>

namespace tendril {
namespace {

const char* kind_name(Json::Kind kind) {
  static constexpr const char* kNames[] = {"null",     "a boolean", "a number",
                                           "a string", "an array",  "an object"};
  return kNames[static_cast<size_t>(kind)];
}

[[noreturn]] void wrong_kind(const char* wanted, Json::Kind kind) {
  fail("[json] the value is not ", wanted, "; got ", kind_name(kind));
}

// The length of the UTF-8 sequence at the start of `text`; 0 when it is malformed.
// The second byte's range depends on the first: this excludes overlong forms and surrogates
// (Unicode 15, table 3-7).
size_t utf8_sequence(std::string_view text) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto tail = [&](size_t i) { return byte(i) >= 0x80 && byte(i) <= 0xBF; };
  const unsigned lead = byte(0), second = byte(1);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned low = lead == 0xE0 ? 0xA0 : 0x80, high = lead == 0xED ? 0x9F : 0xBF;
    return second >= low && second <= high && tail(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned low = lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xF4 ? 0x8F : 0xBF;
    return second >= low && second <= high && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

template <class T>
std::string number_text(T value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_sequence(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

Json::Json(int64_t value) : value_(Number{number_text(value)}) {}

Json::Json(double value) : value_(Number{number_text(value)}) {
  TENDRIL_CHECK(std::isfinite(value), "[json] numbers must be finite; got ", value);
}

Json Json::object() {
  Json result;
  result.value_ = Object{};
  return result;
}

bool Json::is_integer() const {
  const auto* number = std::get_if<Number>(&value_);
  if (!number || number->text == "-0") return false;
  const char* end = number->text.data() + number->text.size();
  int64_t value;
  const auto result = std::from_chars(number->text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end;
}

bool Json::as_bool() const {
  if (const auto* value = std::get_if<bool>(&value_)) return *value;
  wrong_kind("a boolean", kind());
}

int64_t Json::as_int() const {
  const auto* number = std::get_if<Number>(&value_);
  if (!number) wrong_kind("an integer", kind());
  TENDRIL_CHECK(is_integer(), "[json] the number is not a 64-bit integer; got ", number->text);
  int64_t value = 0;
  std::from_chars(number->text.data(), number->text.data() + number->text.size(), value);
  return value;
}

double Json::as_double() const {
  const auto* number = std::get_if<Number>(&value_);
  if (!number) wrong_kind("a number", kind());
  double value = 0;
  const auto result =
      std::from_chars(number->text.data(), number->text.data() + number->text.size(), value);
  TENDRIL_CHECK(result.ec == std::errc(), "[json] the number does not fit in a double; got ",
                number->text);
  return value;
}

const std::string& Json::as_string() const {
  if (const auto* value = std::get_if<std::string>(&value_)) return *value;
  wrong_kind("a string", kind());
}

const Json::Array& Json::items() const {
  if (const auto* value = std::get_if<Array>(&value_)) return *value;
  wrong_kind("an array", kind());
}

const Json::Object& Json::members() const {
  if (const auto* value = std::get_if<Object>(&value_)) return *value;
  wrong_kind("an object", kind());
}

const Json* Json::find(std::string_view key) const {
  for (const auto& [name, value] : members())
    if (name == key) return &value;
  return nullptr;
}

const Json& Json::at(std::string_view key) const {
  const Json* value = find(key);
  TENDRIL_CHECK(value, "[json] the object has no member \"", key, "\"");
  return *value;
}

Json& Json::set(std::string_view key, Json value) {
  auto* object = std::get_if<Object>(&value_);
  if (!object) wrong_kind("an object", kind());
  for (auto& [name, old] : *object) {
    if (name != key) continue;
    old = std::move(value);
    return *this;
  }
  object->emplace_back(key, std::move(value));
  return *this;
}

Json& Json::push_back(Json value) {
  auto* array = std::get_if<Array>(&value_);
  if (!array) wrong_kind("an array", kind());
  array->push_back(std::move(value));
  return *this;
}

std::string json_quote(std::string_view text) {
  TENDRIL_CHECK(is_utf8(text), "[json] a string must be valid UTF-8");
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20)
          out += c;
        else
          out += {'\\', 'u', '0', '0', kHex[c >> 4], kHex[c & 15]};
    }
  }
  return out += '"';
}

std::string Json::dump(int indent) const {
  std::string out;
  dump_to(out, indent, 0);
  return out;
}

void Json::dump_to(std::string& out, int indent, int level) const {
  const auto line = [&](int depth) {
    if (indent >= 0) out.append(1, '\n').append(static_cast<size_t>(indent * depth), ' ');
  };
  const auto sequence = [&](char open, char close, const auto& parts, auto&& write) {
    out += open;
    for (size_t i = 0; i < parts.size(); ++i) {
      if (i > 0) out += ',';
      line(level + 1);
      write(parts[i]);
    }
    if (!parts.empty()) line(level);
    out += close;
  };
  switch (kind()) {
    case Kind::null:
      out += "null";
      break;
    case Kind::boolean:
      out += as_bool() ? "true" : "false";
      break;
    case Kind::number:
      out += std::get<Number>(value_).text;
      break;
    case Kind::string:
      out += json_quote(as_string());
      break;
    case Kind::array:
      sequence('[', ']', items(), [&](const Json& item) { item.dump_to(out, indent, level + 1); });
      break;
    case Kind::object:
      sequence('{', '}', members(), [&](const Member& member) {
        out += json_quote(member.first);
        out += indent >= 0 ? ": " : ":";
        member.second.dump_to(out, indent, level + 1);
      });
      break;
  }
}

}  // namespace tendril
