#include <tendril/dist/launch/command_line.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include <tendril/core/error.h>
#include <tendril/core/json.h>
#include <tendril/core/nearest_name.h>
#include <tendril/dist/launch/keys.h>

namespace tendril::launch {
namespace {

// The reference's short forms.
std::string flag_names(const std::string& name) {
  if (name == "module") return "-m,--module";
  if (name == "tee") return "-t,--tee";
  return "--" + name;
}

// CLI11 sorts the words; what they mean is for the keys.
class Reader {
 public:
  Reader() {
    app_.set_help_flag("-h,--help");
    app_.prefix_command();  // stops at the program
    for (const Key& key : keys()) declare(key);
  }

  CommandLine read(std::vector<std::string> words) {
    CommandLine line;
    std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
    try {
      app_.parse(std::move(words));
    } catch (const CLI::CallForHelp&) {
      line.wants_help = true;
      return line;
    } catch (const CLI::ParseError& mistake) {
      fail("[launch] ", mistake.what());
    }
    std::map<const CLI::Option*, size_t> words_used;
    for (const CLI::Option* option : app_.parse_order())  // once for each word
      if (const auto found = names_.find(option); found != names_.end())
        line.flags.emplace_back(found->second, option->results().at(words_used[option]++));
    line.command = app_.remaining();
    return line;
  }

 private:
  void declare(const Key& key) {
    const CLI::callback_t accept = [](const CLI::results_t&) { return true; };
    CLI::Option* option = key.is_switch ? app_.add_flag(flag_names(key.name))
                                        : app_.add_option(flag_names(key.name), accept);
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    names_[option] = key.name;
  }

  CLI::App app_;
  std::map<const CLI::Option*, std::string> names_;
};

[[noreturn]] void unknown_flag(const std::string& word) {
  const std::string flag = word.substr(0, word.find('='));
  std::vector<std::string> names;
  for (const Key& key : keys()) names.push_back("--" + key.name);
  std::string name = flag;
  std::replace(name.begin() + 2, name.end(), '-', '_');
  const std::string nearest = nearest_name(names, name);
  fail("[launch] there is no flag ", flag,
       nearest.empty() ? "; tendril-launch --help lists them all"
                       : "; did you mean " + nearest + "?",
       " The program's own arguments come after its name");
}

}  // namespace

CommandLine read_command_line(const std::vector<std::string>& words) {
  for (size_t i = 0; i < words.size(); ++i)
    TENDRIL_CHECK(is_utf8(words[i]), "[launch] word ", i + 1,
                  " of the command line is not valid UTF-8");
  CommandLine line = Reader().read(words);
  if (!line.command.empty() && line.command[0] == "--") line.command.erase(line.command.begin());
  if (!line.command.empty() && line.command[0].size() > 1 && line.command[0][0] == '-')
    unknown_flag(line.command[0]);
  return line;
}

}  // namespace tendril::launch
