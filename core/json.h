// A small strict JSON reader and writer (RFC 8259), for safetensors headers and config.json.
//
// Strict means: valid UTF-8, no duplicate keys, no comments, no trailing commas, no text after the
// value, bounded nesting. A file that any other reader could understand differently is an Error.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <tendril/core/api.h>

namespace tendril {

/// Bounds on what a text may contain, so that a hostile file cannot exhaust stack or memory.
struct JsonLimits {
  int depth = 64;  // nested arrays and objects
  int64_t array_items = std::numeric_limits<int64_t>::max();
};

/// One JSON value: null, boolean, number, string, array or object (members keep their order).
class TENDRIL_API Json {
 public:
  enum class Kind : uint8_t { null, boolean, number, string, array, object };
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;

  Json() = default;
  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  Json(int value) : Json(static_cast<int64_t>(value)) {}
  Json(int64_t value);
  Json(double value);  // Error for NaN and infinity, which JSON cannot say
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(Array items) : value_(std::move(items)) {}
  static Json array() { return Json(Array{}); }
  static Json object();

  /// Error "[json] <origin>: what is wrong at line, column" unless `text` is exactly one JSON
  /// value.
  static Json parse(std::string_view text, const std::string& origin, JsonLimits limits = {});

  Kind kind() const { return static_cast<Kind>(value_.index()); }
  bool is_null() const { return kind() == Kind::null; }
  bool is_number() const { return kind() == Kind::number; }
  bool is_string() const { return kind() == Kind::string; }
  bool is_array() const { return kind() == Kind::array; }
  bool is_object() const { return kind() == Kind::object; }
  /// True for numbers written without fraction and exponent that fit in 64 bits; "-0" is not one.
  bool is_integer() const;

  // Each is an Error when the value is of another kind.
  bool as_bool() const;
  int64_t as_int() const;
  double as_double() const;
  const std::string& as_string() const;
  const Array& items() const;
  const Object& members() const;

  /// The member of an object, or null when it has none of this name.
  const Json* find(std::string_view key) const;
  /// The same, but an Error when the member is missing.
  const Json& at(std::string_view key) const;

  /// Adds or replaces a member of an object; returns *this for chaining.
  Json& set(std::string_view key, Json value);
  Json& push_back(Json value);

  /// JSON text. `indent` spaces per level, or everything on one line when it is negative.
  std::string dump(int indent = -1) const;

 private:
  friend class JsonParser;
  // A number keeps its text: 64-bit integers and doubles both survive exactly.
  struct Number {
    std::string text;
  };
  void dump_to(std::string& out, int indent, int level) const;

  std::variant<std::nullptr_t, bool, Number, std::string, Array, Object> value_ = nullptr;
};

/// `text` in double quotes with everything escaped that JSON wants escaped; Error unless it is
/// UTF-8.
TENDRIL_API std::string json_quote(std::string_view text);

/// Whether `text` is well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
TENDRIL_API bool is_utf8(std::string_view text);

}  // namespace tendril
