#include <tendril/trainer/arguments/type.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include <tendril/core/error.h>
#include <tendril/trainer/choices.h>

namespace tendril {

std::string shown(const Json& json) {
  constexpr size_t kLongest = 60;
  std::string text = json.dump();
  if (text.size() <= kLongest) return text;
  size_t end = kLongest;
  while ((text[end] & 0xC0) == 0x80) --end;  // never inside of a character
  return text.substr(0, end) + "...";
}

namespace {

[[noreturn]] void wrong(const std::string& where, const std::string& wanted, const Json& got) {
  fail(where, " must be ", wanted, "; got ", shown(got));
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// What a Codec<T> has: kPlaceholder, write(value), and read() from JSON and from a word.
template <class T>
struct Codec;

struct PlainCodec {
  static constexpr bool kIsSwitch = false, kIsList = false;
  static std::vector<std::string> choices() { return {}; }
};

template <>
struct Codec<bool> : PlainCodec {
  static constexpr const char* kPlaceholder = "";
  static constexpr bool kIsSwitch = true;
  static Json write(bool value) { return value; }
  static bool read(const Json& json, const std::string& where) {
    if (json.kind() != Json::Kind::boolean) wrong(where, "true or false", json);
    return json.as_bool();
  }
  static bool read(const std::string& text, const std::string& where) {
    static constexpr auto kYes = std::to_array({"true", "yes", "on", "t", "y", "1"});
    static constexpr auto kNo = std::to_array({"false", "no", "off", "f", "n", "0"});
    std::string lower = text;
    for (char& c : lower)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (std::find(kYes.begin(), kYes.end(), lower) != kYes.end()) return true;
    if (std::find(kNo.begin(), kNo.end(), lower) != kNo.end()) return false;
    wrong(where, "true or false", text);
  }
};

template <class Number>
struct NumberCodec : PlainCodec {
  static constexpr bool kIsInteger = std::numeric_limits<Number>::is_integer;
  static constexpr const char* kPlaceholder = kIsInteger ? "INTEGER" : "NUMBER";

  static Json write(Number value) { return value; }
  // A JSON number is its text, so integers of 64 bits stay exact.
  static Number read(const Json& json, const std::string& where) {
    if (!json.is_number()) wrong(where, wanted(), json);
    return from(json.dump(), json, where);
  }
  static Number read(const std::string& text, const std::string& where) {
    return from(text, text, where);
  }

 private:
  static std::string wanted() {
    if (!kIsInteger) return "a finite number";
    return sizeof(Number) == 4 ? "an integer of 32 bits" : "an integer";
  }
  static Number from(const std::string& text, const Json& got, const std::string& where) {
    const char *begin = text.data(), *end = begin + text.size();
    if (text.size() > 1 && text[0] == '+' && text[1] != '-') ++begin;
    Number value{};
    const auto result = std::from_chars(begin, end, value);
    bool good = result.ec == std::errc() && result.ptr == end;
    if constexpr (!kIsInteger) good = good && std::isfinite(value);
    if (!good) wrong(where, wanted(), got);
    return value;
  }
};
template <>
struct Codec<double> : NumberCodec<double> {};
template <>
struct Codec<int64_t> : NumberCodec<int64_t> {};
template <>
struct Codec<int> : NumberCodec<int> {};

template <>
struct Codec<std::string> : PlainCodec {
  static constexpr const char* kPlaceholder = "TEXT";
  static Json write(const std::string& value) { return value; }
  static std::string read(const Json& json, const std::string& where) {
    if (!json.is_string()) wrong(where, "text", json);
    return json.as_string();
  }
  static std::string read(const std::string& text, const std::string&) { return text; }
};

template <>
struct Codec<std::vector<std::string>> : PlainCodec {
  static constexpr const char* kPlaceholder = "TEXT...";
  static constexpr bool kIsList = true;
  static Json write(const std::vector<std::string>& value) {
    return Json::Array(value.begin(), value.end());
  }
  static std::vector<std::string> read(const Json& json, const std::string& where) {
    if (json.is_null()) return {};
    if (json.is_string()) return {json.as_string()};
    if (!json.is_array()) wrong(where, "a list of texts", json);
    std::vector<std::string> value;
    for (const Json& item : json.items()) {
      if (!item.is_string()) wrong(where, "a list of texts", json);
      value.push_back(item.as_string());
    }
    return value;
  }
  static std::vector<std::string> read(const std::string& text, const std::string&) {
    return {text};
  }
};

template <>
struct Codec<Json> : PlainCodec {
  static constexpr const char* kPlaceholder = "JSON";
  static Json write(const Json& value) { return value; }
  // A string that holds an object counts as the object; any other may be the path of a file.
  static Json read(const Json& json, const std::string& where) {
    if (json.is_null() || json.is_object()) return json;
    if (!json.is_string()) wrong(where, "an object, or text that holds one", json);
    const std::string& text = json.as_string();
    const size_t start = text.find_first_not_of(" \t\r\n");
    if (start == std::string::npos || text[start] != '{') return json;
    return Json::parse(text, where);
  }
  static Json read(const std::string& text, const std::string& where) {
    return text == "null" ? Json() : read(Json(text), where);
  }
};

// The enumerators' texts, in their order.
template <class Enum>
constexpr auto kTexts = nullptr;
template <>
constexpr auto kTexts<IntervalStrategy> = std::to_array({"no", "steps", "epoch"});
template <>
constexpr auto kTexts<SaveStrategy> = std::to_array({"no", "steps", "epoch", "best"});
template <>
constexpr auto kTexts<SamplingStrategy> = std::to_array({"random", "sequential",
                                                         "group_by_length"});
template <>
constexpr auto kTexts<NonfinitePolicy> = std::to_array({"stop", "skip", "continue"});
template <>
constexpr auto kTexts<NeftuneLength> = std::to_array({"sequence", "padded"});
template <>
constexpr auto kTexts<SchedulerType> =
    std::to_array({"linear", "cosine", "cosine_with_restarts", "polynomial", "constant",
                   "constant_with_warmup", "inverse_sqrt", "reduce_lr_on_plateau",
                   "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay"});

template <class Enum>
requires std::is_enum_v<Enum>
struct Codec<Enum> : PlainCodec {
  static constexpr const char* kPlaceholder = "NAME";
  static std::vector<std::string> choices() { return {kTexts<Enum>.begin(), kTexts<Enum>.end()}; }
  static Json write(Enum value) {
    const auto index = static_cast<size_t>(value);
    TENDRIL_CHECK(index < kTexts<Enum>.size(), "[arguments] a choice must be one of ",
                  joined(choices()), "; got the number ", index);
    return kTexts<Enum>[index];
  }
  static Enum read(const Json& json, const std::string& where) {
    const std::vector<std::string> texts = choices();
    for (size_t i = 0; i < texts.size(); ++i)
      if (json.is_string() && json.as_string() == texts[i]) return static_cast<Enum>(i);
    wrong(where, "one of " + joined(texts), json);
  }
  static Enum read(const std::string& text, const std::string& where) {
    return read(Json(text), where);
  }
};

// Null, or the word null, leaves it unset.
template <class T>
struct Codec<std::optional<T>> : Codec<T> {
  static Json write(const std::optional<T>& value) {
    return value ? Codec<T>::write(*value) : Json();
  }
  static std::optional<T> read(const Json& json, const std::string& where) {
    if (json.is_null()) return std::nullopt;
    return Codec<T>::read(json, where);
  }
  static std::optional<T> read(const std::string& text, const std::string& where) {
    if (text == "null") return std::nullopt;
    return Codec<T>::read(text, where);
  }
};

}  // namespace

template <class T>
const ArgumentType& argument_type() {
  static const ArgumentType type{
      .placeholder = Codec<T>::kPlaceholder,
      .choices = Codec<T>::choices(),
      .is_switch = Codec<T>::kIsSwitch,
      .is_list = Codec<T>::kIsList,
      .to_json = [](const void* value) { return Codec<T>::write(*static_cast<const T*>(value)); },
      .read_json =
          [](void* value, const Json& json, const std::string& where) {
            *static_cast<T*>(value) = Codec<T>::read(json, where);
          },
      .read_text =
          [](void* value, const std::string& text, const std::string& where) {
            *static_cast<T*>(value) = Codec<T>::read(text, where);
          },
  };
  return type;
}

template const ArgumentType& argument_type<bool>();
template const ArgumentType& argument_type<int>();
template const ArgumentType& argument_type<int64_t>();
template const ArgumentType& argument_type<double>();
template const ArgumentType& argument_type<std::string>();
template const ArgumentType& argument_type<std::vector<std::string>>();
template const ArgumentType& argument_type<std::optional<bool>>();
template const ArgumentType& argument_type<std::optional<int>>();
template const ArgumentType& argument_type<std::optional<int64_t>>();
template const ArgumentType& argument_type<std::optional<double>>();
template const ArgumentType& argument_type<std::optional<std::string>>();
template const ArgumentType& argument_type<std::optional<std::vector<std::string>>>();
template const ArgumentType& argument_type<Json>();
template const ArgumentType& argument_type<IntervalStrategy>();
template const ArgumentType& argument_type<SaveStrategy>();
template const ArgumentType& argument_type<SamplingStrategy>();
template const ArgumentType& argument_type<NonfinitePolicy>();
template const ArgumentType& argument_type<NeftuneLength>();
template const ArgumentType& argument_type<SchedulerType>();

}  // namespace tendril
