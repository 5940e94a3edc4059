// The reading half of json.h: recursive descent with a depth limit, one function per grammar rule.
#include <tendril/core/json.h>

#include <algorithm>
#include <cstring>

#include <tendril/core/error.h>

namespace tendril {

class JsonParser {
 public:
  JsonParser(std::string_view text, const std::string& origin, JsonLimits limits)
      : text_(text), origin_(origin), limits_(limits) {}

  Json document() {
    if (!is_utf8(text_)) fail("[json] ", origin_, ": the text is not valid UTF-8");
    Json result = value(0);
    skip_space();
    if (position_ < text_.size()) error("there is text after the value");
    return result;
  }

 private:
  [[noreturn]] void error(const char* problem) const {
    const std::string_view before = text_.substr(0, position_);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t line_start = before.rfind('\n') + 1;  // npos + 1 == 0
    fail("[json] ", origin_, ": ", problem, " at line ", line, ", column ",
         position_ - line_start + 1);
  }

  char peek() const { return position_ < text_.size() ? text_[position_] : '\0'; }
  bool at_digit() const { return peek() >= '0' && peek() <= '9'; }

  bool take(char expected) {
    if (position_ >= text_.size() || text_[position_] != expected) return false;
    ++position_;
    return true;
  }

  void skip_space() {
    while (position_ < text_.size() && std::memchr(" \t\n\r", text_[position_], 4)) ++position_;
  }

  Json value(int depth) {
    skip_space();
    if (position_ >= text_.size()) error("the text ends where a value should be");
    switch (peek()) {
      case '{':
        return object(depth);
      case '[':
        return array(depth);
      case '"':
        return Json(string());
      case 't':
        return word("true", Json(true));
      case 'f':
        return word("false", Json(false));
      case 'n':
        return word("null", Json());
      default:
        return number();
    }
  }

  Json word(std::string_view expected, Json result) {
    if (text_.substr(position_, expected.size()) != expected) error("unknown word");
    position_ += expected.size();
    return result;
  }

  void open(int depth) {
    if (depth >= limits_.depth) error("nested too deeply");
    ++position_;
    skip_space();
  }

  Json array(int depth) {
    open(depth);
    Json::Array items;
    if (take(']')) return Json(std::move(items));
    do {
      if (static_cast<int64_t>(items.size()) >= limits_.array_items) error("the array is too long");
      items.push_back(value(depth + 1));
      skip_space();
    } while (take(','));
    if (!take(']')) error("expected ',' or ']'");
    return Json(std::move(items));
  }

  Json object(int depth) {
    open(depth);
    Json::Object members;
    if (!take('}')) {
      do {
        skip_space();
        if (peek() != '"') error("expected a key in double quotes");
        std::string key = string();
        skip_space();
        if (!take(':')) error("expected ':'");
        members.emplace_back(std::move(key), value(depth + 1));
        skip_space();
      } while (take(','));
      if (!take('}')) error("expected ',' or '}'");
    }
    reject_duplicates(members);
    Json result;
    result.value_ = std::move(members);
    return result;
  }

  void reject_duplicates(const Json::Object& members) const {
    std::vector<std::string_view> keys;
    keys.reserve(members.size());
    for (const auto& member : members) keys.push_back(member.first);
    std::sort(keys.begin(), keys.end());
    const auto twin = std::adjacent_find(keys.begin(), keys.end());
    if (twin != keys.end())
      error(("duplicate key " + json_quote(*twin) + " in the object ending").c_str());
  }

  // number = [ "-" ] ( "0" | digit1-9 digits ) [ "." digits ] [ ("e" | "E") [ "+" | "-" ] digits ]
  Json number() {
    const size_t start = position_;
    take('-');
    if (!at_digit()) error("unexpected character");
    if (!take('0')) digits();
    if (take('.')) digits();
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      digits();
    }
    Json result;
    result.value_ = Json::Number{std::string(text_.substr(start, position_ - start))};
    return result;
  }

  void digits() {
    if (!at_digit()) error("expected a digit");
    while (at_digit()) ++position_;
  }

  std::string string() {
    ++position_;  // the opening quote
    std::string out;
    while (true) {
      if (position_ >= text_.size()) error("the string does not end");
      const char c = text_[position_++];
      if (c == '"') return out;
      if (static_cast<unsigned char>(c) < 0x20) {
        --position_;
        error("control characters in strings must be escaped");
      }
      if (c == '\\')
        escape(out);
      else
        out += c;
    }
  }

  void escape(std::string& out) {
    static constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const char c = peek();
    if (c == 'u') {
      ++position_;
      return append_utf8(out, code_point());
    }
    const size_t known = position_ < text_.size() ? kNames.find(c) : std::string_view::npos;
    if (known == std::string_view::npos) error("unknown escape");
    ++position_;
    out += kMeanings[known];
  }

  // The four hexadecimal digits after \u; a high surrogate must be followed by a low one.
  uint32_t code_point() {
    const uint32_t high = hex4();
    if (high < 0xD800 || high > 0xDFFF) return high;
    if (high > 0xDBFF || !take('\\') || !take('u')) error("lone surrogate");
    const uint32_t low = hex4();
    if (low < 0xDC00 || low > 0xDFFF) error("lone surrogate");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  uint32_t hex4() {
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i, ++position_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) error("expected four hexadecimal digits");
      result = result * 16 + static_cast<uint32_t>(digit);
    }
    return result;
  }

  static void append_utf8(std::string& out, uint32_t code) {
    const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xC0 | code >> 6);
      tail(0);
    } else if (code < 0x10000) {
      out += static_cast<char>(0xE0 | code >> 12);
      tail(6), tail(0);
    } else {
      out += static_cast<char>(0xF0 | code >> 18);
      tail(12), tail(6), tail(0);
    }
  }

  std::string_view text_;
  const std::string& origin_;
  JsonLimits limits_;
  size_t position_ = 0;
};

Json Json::parse(std::string_view text, const std::string& origin, JsonLimits limits) {
  return JsonParser(text, origin, limits).document();
}

}  // namespace tendril
