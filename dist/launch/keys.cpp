#include <tendril/dist/launch/keys.h>

#include <algorithm>
#include <type_traits>

#include <tendril/core/error.h>
#include <tendril/core/json.h>
#include <tendril/dist/launch/read_value.h>

namespace tendril::launch {
namespace {

template <class T>
Key value_key(const char* name, T LaunchConfig::*field, const char* variable, const char* help) {
  Key key{.name = name, .variable = variable, .help = help};
  key.is_switch = std::is_same_v<T, bool> || std::is_same_v<T, std::optional<bool>>;
  key.assign = [field](LaunchConfig& config, const std::string& text, const std::string& where) {
    read_value(config.*field, text, where);
  };
  key.text = [field](const LaunchConfig& config) { return value_text(config.*field); };
  key.default_text = key.text(LaunchConfig());
  return key;
}

// "full_shard" or "1" as the list has it: FULL_SHARD.
std::string choose(const std::vector<std::string>& choices, bool is_numbered,
                   const std::string& text, const std::string& where) {
  for (size_t i = 0; i < choices.size(); ++i)
    if (lowercase(choices[i]) == lowercase(text) || (is_numbered && text == std::to_string(i + 1)))
      return choices[i];
  fail(where, " must be one of ", join(choices, ", "),
       is_numbered ? ", or a number from 1 to " + std::to_string(choices.size()) : "", "; got ",
       json_quote(text));
}

Key choice_key(const char* name, std::string LaunchConfig::*field, const char* choices,
               bool is_numbered, const char* variable, const char* help) {
  Key key = value_key(name, field, variable, help);
  key.choices = split(choices, '|');
  key.is_numbered = is_numbered;
  key.assign = [field, list = key.choices, is_numbered](
                   LaunchConfig& config, const std::string& text, const std::string& where) {
    config.*field = choose(list, is_numbered, text, where);
  };
  return key;
}

// A key without a field: only whether it has its default matters.
Key foreign_key(Key::Use use, const std::string& name, const char* defaults, const char* why) {
  Key key{.name = name, .help = why, .use = use, .default_text = defaults};
  key.is_switch = std::string(defaults) == "false" || std::string(defaults) == "true|false";
  key.assign = [use, name, why, list = split(lowercase(defaults), '|')](
                   LaunchConfig& config, const std::string& text, const std::string& where) {
    std::erase(config.ignored, name);
    if (text.empty() || std::find(list.begin(), list.end(), lowercase(text)) != list.end()) return;
    if (use == Key::Use::refused) fail(where, " cannot be ", json_quote(text), ": ", why);
    config.ignored.push_back(name);
  };
  return key;
}

std::vector<Key> make_keys() {
  std::vector<Key> list;
  std::string section, title;
  const auto add = [&](Key key) {
    key.section = section;
    key.title = title;
    list.push_back(std::move(key));
  };
#define GROUP(section_name, title_text) section = section_name, title = title_text;
#define KEY(type, field, default_value, variable, help) \
  add(value_key(#field, &LaunchConfig::field, variable, help));
#define CHOICE(field, default_value, choices, variable, help) \
  add(choice_key(#field, &LaunchConfig::field, choices, false, variable, help));
#define NUMBERED(field, default_value, choices, variable, help) \
  add(choice_key(#field, &LaunchConfig::field, choices, true, variable, help));
#define IGNORED(key_name, defaults, why) \
  add(foreign_key(Key::Use::ignored, #key_name, defaults, why));
#define REFUSED(key_name, defaults, why) \
  add(foreign_key(Key::Use::refused, #key_name, defaults, why));
#define ALIAS(old_name, new_name) \
  add(Key{.name = #old_name, .help = #new_name, .use = Key::Use::alias});
#include <tendril/dist/launch/keys.def>
  return list;
}

// What a mapping's keys begin with, and may leave out there.
std::string prefix_of(const std::string& section) {
  if (section == "parallelism_config" || section == "deepspeed_config") return section + "_";
  return section.substr(0, section.rfind("config"));
}

}  // namespace

const std::vector<Key>& keys() {
  static const std::vector<Key> list = make_keys();
  return list;
}

const Key* find_key(const std::string& name) {
  for (const Key& key : keys())
    if (key.name == name) return key.use == Key::Use::alias ? find_key(key.help) : &key;
  return nullptr;
}

const Key* find_key(const std::string& section, const std::string& name) {
  for (const std::string& candidate : {name, prefix_of(section) + name})
    if (const Key* key = find_key(candidate); key && key->section == section) return key;
  return nullptr;
}

bool is_section(const std::string& name) {
  return !name.empty() && name != "-" &&
         std::any_of(keys().begin(), keys().end(),
                     [&](const Key& key) { return key.section == name; });
}

void set_key(LaunchConfig& config, const Key& key, const std::string& text, Source source,
             const std::string& where) {
  key.assign(config, text, where + key.name);
  config.sources[key.name] = source;
}

}  // namespace tendril::launch
