#include <tendril/dist/launch/command_line.h>

#include <algorithm>

#include <tendril/core/error.h>
#include <tendril/core/json.h>
#include <tendril/core/nearest_name.h>
#include <tendril/dist/launch/keys.h>
#include <tendril/dist/launch/read_value.h>

namespace tendril::launch {
namespace {

[[noreturn]] void unknown_flag(const std::string& flag) {
  std::vector<std::string> names;
  for (const Key& key : keys()) names.push_back("--" + key.name);
  std::string name = flag;
  std::replace(name.begin() + 2, name.end(), '-', '_');
  const std::string nearest = nearest_name(names, name);
  fail("[launch] there is no flag ", flag,
       nearest.empty() ? "; tendril-launch --help lists them all" : "; did you mean " + nearest,
       ". The program's own arguments come after its name");
}

// Of "--name", or of the reference's short forms.
const Key& key_of(const std::string& flag) {
  if (flag == "-m") return *find_key("module");
  if (flag == "-t") return *find_key("tee");
  if (flag.starts_with("--"))
    if (const Key* key = find_key(flag.substr(2))) return *key;
  unknown_flag(flag);
}

// As in the reference, switches of these two groups may have their value as a word of its own.
bool may_have_value(const Key& key, const std::string& next) {
  const std::string word = lowercase(next);
  return (key.section == "fsdp_config" || key.section == "deepspeed_config") &&
         (word == "true" || word == "false");
}

}  // namespace

CommandLine read_command_line(const std::vector<std::string>& words) {
  CommandLine line;
  size_t i = 0;
  for (; i < words.size(); ++i) {
    const std::string& word = words[i];
    TENDRIL_CHECK(is_utf8(word), "[launch] word ", i + 1,
                  " of the command line is not valid UTF-8");
    if (word == "-h" || word == "--help") line.wants_help = true;
    if (line.wants_help) return line;
    if (word == "--" && ++i < words.size()) break;
    if (word.size() < 2 || word[0] != '-') break;
    const size_t equals = word.find('=');
    const Key& key = key_of(word.substr(0, equals));
    if (equals != std::string::npos) {
      line.flags.emplace_back(key.name, word.substr(equals + 1));
    } else if (key.is_switch) {
      const bool has_value = i + 1 < words.size() && may_have_value(key, words[i + 1]);
      line.flags.emplace_back(key.name, has_value ? words[++i] : "true");
    } else {
      // Otherwise --log_dir --use_fsdp would be a folder named --use_fsdp.
      TENDRIL_CHECK(i + 1 < words.size() && !words[i + 1].starts_with("--"), "[launch] ", word,
                    " needs a value");
      line.flags.emplace_back(key.name, words[++i]);
    }
  }
  line.command.assign(words.begin() + static_cast<std::ptrdiff_t>(std::min(i, words.size())),
                      words.end());
  return line;
}

}  // namespace tendril::launch
