// The rows of keys.def as data.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <tendril/dist/launch/config.h>

namespace tendril::launch {

struct Key {
  enum class Use { used, ignored, refused, alias };
  std::string name = {};
  std::string section = {},
              title = {};     // section: its mapping in the file; "" top level, "-" no file
  std::string variable = {};  // of the environment; "" for none
  std::string help = {};      // or why it is ignored or refused; of an alias the name
  Use use = Use::used;
  std::string default_text = {};          // of ignored ones those that need no warning, parted by |
  std::vector<std::string> choices = {};  // empty: any
  bool is_numbered = false;               // a choice's number will do, too
  bool is_switch = false;                 // needs no value on the command line
  std::function<void(LaunchConfig&, const std::string& text, const std::string& where)> assign = {};
  std::function<std::string(const LaunchConfig&)> text = {};
};

/// In the order of keys.def.
const std::vector<Key>& keys();

/// The key of this name, an alias resolved; null when there is none.
const Key* find_key(const std::string& name);
/// The same for a name inside of a mapping of the file, where its prefix may be left out.
const Key* find_key(const std::string& section, const std::string& name);
/// Whether files have a mapping of this name.
bool is_section(const std::string& name);

/// Sets a key and remembers the source; `where` begins error messages.
void set_key(LaunchConfig& config, const Key& key, const std::string& text, Source source,
             const std::string& where);

}  // namespace tendril::launch
