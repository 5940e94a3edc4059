#include <tendril/trainer/sharding/config_section.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include <tendril/core/nearest_name.h>
#include <tendril/trainer/arguments/file.h>
#include <tendril/trainer/arguments/type.h>

namespace tendril::sharding {
namespace {

constexpr double kLargestInteger = 9007199254740992.0;  // up to here a double is exact

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

// A number, or a text that is one.
std::optional<double> number_from(const Json& value) {
  if (!value.is_number() && !value.is_string()) return std::nullopt;
  const std::string text = value.is_number() ? value.dump() : value.as_string();
  double number = 0.0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool good = result.ec == std::errc() && result.ptr == text.data() + text.size();
  if (!good || !std::isfinite(number)) return std::nullopt;
  return number;
}

}  // namespace

void Problems::finish() const {
  if (lines_.empty()) return;
  std::string list;
  for (const std::string& line : lines_) list += "\n- " + line;
  fail(where_, " cannot be used:", list);
}

Json read_config_file(const std::string& path) {
  Json object = Json::object();
  for (const ArgumentSetting& setting : read_argument_file(path)) {
    if (!setting.text)
      object.set(setting.name, setting.value);
    else if (*setting.text != "null" && *setting.text != "~")
      object.set(setting.name, *setting.text);
  }
  return object;
}

std::string listed(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

std::optional<bool> flag_from(const std::string& text) {
  const std::string word = lower(text);
  for (const char* yes : {"true", "1", "yes", "on"})
    if (word == yes) return true;
  for (const char* no : {"false", "0", "no", "off"})
    if (word == no) return false;
  return std::nullopt;
}

ConfigSection::ConfigSection(const Json& object, std::string prefix, Problems& problems)
    : object_(object), prefix_(std::move(prefix)), problems_(problems) {
  if (object_.is_object()) return;
  const std::string name = prefix_.substr(0, prefix_.find_last_of('.'));
  problems_.add(name.empty() ? "it" : name, " must be an object; got ", shown(object));
  object_ = Json::object();
}

const Json* ConfigSection::take(const std::string& name) {
  known_.push_back(name);
  const Json* value = object_.find(name);
  return value && !value->is_null() ? value : nullptr;
}

ConfigSection ConfigSection::section(const std::string& name) {
  const Json* value = take(name);
  return ConfigSection(value ? *value : Json::object(), path(name) + ".", problems_);
}

void ConfigSection::wrong(const std::string& name, const std::string& wanted, const Json& got) {
  problems_.add(path(name), " must be ", wanted, "; got ", shown(got));
}

std::optional<bool> ConfigSection::flag(const std::string& name) {
  const Json* value = take(name);
  if (!value) return std::nullopt;
  if (value->kind() == Json::Kind::boolean) return value->as_bool();
  std::optional<bool> flag;
  if (value->is_string()) flag = flag_from(value->as_string());
  if (!flag) wrong(name, "true or false", *value);
  return flag;
}

std::optional<int64_t> ConfigSection::integer(const std::string& name, int64_t least) {
  const Json* value = take(name);
  if (!value) return std::nullopt;
  const std::optional<double> number = number_from(*value);
  const bool good = number && *number == std::floor(*number) &&
                    *number >= static_cast<double>(least) && *number <= kLargestInteger;
  if (good) return static_cast<int64_t>(*number);
  wrong(name, "an integer of at least " + std::to_string(least), *value);
  return std::nullopt;
}

std::optional<double> ConfigSection::number(const std::string& name) {
  const Json* value = take(name);
  if (!value) return std::nullopt;
  const std::optional<double> number = number_from(*value);
  if (!number) wrong(name, "a finite number", *value);
  return number;
}

std::optional<std::string> ConfigSection::text(const std::string& name) {
  const Json* value = take(name);
  if (!value) return std::nullopt;
  if (value->is_string()) return value->as_string();
  wrong(name, "text", *value);
  return std::nullopt;
}

std::vector<std::string> ConfigSection::texts(const std::string& name) {
  const Json* value = take(name);
  std::vector<std::string> texts;
  if (!value) return texts;
  for (const Json& item : value->is_array() ? value->items() : Json::Array{*value}) {
    if (!item.is_string()) {
      wrong(name, "a text, or a list of texts", *value);
      return {};
    }
    if (!item.as_string().empty()) texts.push_back(item.as_string());
  }
  return texts;
}

std::vector<std::string> ConfigSection::words(const std::string& name) {
  std::vector<std::string> words;
  for (std::string text : texts(name)) {
    std::replace(text.begin(), text.end(), ',', ' ');
    std::istringstream stream(text);
    for (std::string word; stream >> word;) words.push_back(word);
  }
  return words;
}

std::optional<size_t> ConfigSection::choice(const std::string& name,
                                            const std::vector<std::string>& choices) {
  const Json* value = take(name);
  if (!value) return std::nullopt;
  const std::string word = value->is_string() ? lower(value->as_string()) : value->dump();
  for (size_t i = 0; i < choices.size(); ++i)
    if (word == lower(choices[i]) || word == std::to_string(i + 1)) return i;
  wrong(name, "one of " + listed(choices), *value);
  return std::nullopt;
}

void ConfigSection::finish() {
  constexpr size_t kLongest = 60;
  for (const auto& [name, value] : object_.members()) {
    if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
    const std::string nearest = nearest_name(known_, name);
    const bool is_long = name.size() > kLongest;
    problems_.add("there is no key ", path(is_long ? json_quote(name).substr(0, kLongest) : name),
                  nearest.empty() ? "" : "; did you mean " + path(nearest) + "?");
  }
}

}  // namespace tendril::sharding
