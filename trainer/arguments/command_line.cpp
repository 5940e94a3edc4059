#include <tendril/trainer/arguments/command_line.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include <tendril/core/error.h>

namespace tendril {
namespace {

constexpr const char* kTag = "[arguments] ";
constexpr int kMostWords = 1 << 16;

// "--learning_rate,--learning-rate"
std::string spellings(const std::string& name) {
  std::string dashed = name;
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  return dashed == name ? "--" + name : "--" + name + ",--" + dashed;
}

// CLI11 sorts the words; what they mean is for ArgumentType.
class Reader {
 public:
  explicit Reader(const ArgumentList& arguments) {
    app_.allow_extras();
    app_.set_help_flag("-h,--help");
    config_ = option("--config");
    for (const Argument& argument : arguments) declare(argument);
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
      fail(kTag, mistake.what());
    }
    collect_uses(line);
    return line;
  }

  std::vector<std::string> unknown_words() const { return app_.remaining(); }

 private:
  CLI::Option* option(const std::string& names) {
    const CLI::callback_t accept = [](const CLI::results_t&) { return true; };
    return app_.add_option(names, accept)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }

  void declare(const Argument& argument) {
    CLI::Option* option = this->option(spellings(argument.name));
    if (argument.type->is_list) option->expected(1, kMostWords);
    if (argument.type->is_switch) {
      option->expected(0, 1)->default_str("true");
      negations_[app_.add_flag(spellings("no_" + argument.name))] = &argument;
    }
    options_[option] = &argument;
  }

  void collect_uses(CommandLine& line) const {
    std::map<const CLI::Option*, size_t> words_used;
    for (const CLI::Option* option : app_.parse_order()) {  // once for each word
      const size_t index = words_used[option]++;
      if (option == config_) {
        TENDRIL_CHECK(index == 0, kTag, "--config is given twice");
        line.file = option->results().front();
      } else if (const auto found = options_.find(option); found != options_.end()) {
        add_use(line, *found->second, option->results(), index);
      } else if (const auto negation = negations_.find(option); negation != negations_.end()) {
        const Argument& argument = *negation->second;
        const std::string& word = option->results().at(index);
        TENDRIL_CHECK(word == "true", kTag, "--no_", argument.name, " takes no value; got ",
                      json_quote(word));
        line.uses.push_back({&argument, "--no_" + argument.name, {"false"}});
      }
    }
  }

  static void add_use(CommandLine& line, const Argument& argument,
                      const std::vector<std::string>& words, size_t index) {
    const std::string flag = "--" + argument.name;
    const std::string& word = words.at(index);
    // Otherwise --output_dir --bf16 would be a folder named --bf16.
    TENDRIL_CHECK(!word.starts_with("--"), kTag, flag, " needs a value; got ", json_quote(word));
    if (!argument.type->is_list)
      line.uses.push_back({&argument, flag, {word}});
    else if (index == 0)
      line.uses.push_back({&argument, flag, words});
  }

  CLI::App app_;
  CLI::Option* config_ = nullptr;
  std::map<const CLI::Option*, const Argument*> options_, negations_;
};

[[noreturn]] void unknown_word(const ArgumentList& arguments, const std::string& word) {
  if (!word.starts_with('-') || word.size() < 2)
    fail(kTag, "unexpected word ", json_quote(word), "; arguments begin with --");
  std::string name = word.substr(0, word.find('='));
  name.erase(0, std::min(name.find_first_not_of('-'), name.size()));
  std::replace(name.begin(), name.end(), '-', '_');
  find_argument(arguments, name, kTag);
  // The name is known, but not with these dashes.
  fail(kTag, "unexpected word ", json_quote(word), "; write --", name);
}

// A list is one JSON array, or words that commas may part further.
void read_list(const Argument& argument, const std::vector<std::string>& words,
               const std::string& where) {
  if (words.size() == 1 && words[0].starts_with('['))
    return argument.type->read_json(argument.value, Json::parse(words[0], where), where);
  if (words.size() == 1 && words[0] == "null")
    return argument.type->read_json(argument.value, Json(), where);
  Json items = Json::array();
  for (const std::string& word : words) {
    std::istringstream parts(word);
    for (std::string part; std::getline(parts, part, ',');) {
      const size_t first = part.find_first_not_of(' '), last = part.find_last_not_of(' ');
      if (first != std::string::npos) items.push_back(part.substr(first, last - first + 1));
    }
  }
  argument.type->read_json(argument.value, items, where);
}

}  // namespace

CommandLine read_command_line(const ArgumentList& arguments, int argc, const char* const* argv) {
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    TENDRIL_CHECK(is_utf8(word), kTag, "word ", i, " of the command line is not valid UTF-8");
    // CLI11 would take the next word for the value of "--debug=".
    const bool is_emptied = word.starts_with("--") && word.find('=') == word.size() - 1;
    if (is_emptied) word.pop_back();
    words.push_back(std::move(word));
    if (is_emptied) words.emplace_back();
  }
  Reader reader(arguments);
  CommandLine line = reader.read(std::move(words));
  if (line.wants_help) return line;
  std::vector<std::string> unknown = reader.unknown_words();
  if (!unknown.empty() && is_argument_file(unknown[0]) && !unknown[0].starts_with('-')) {
    TENDRIL_CHECK(!line.file, kTag, "there are two files of arguments: ", *line.file, " and ",
                  unknown[0]);
    line.file = unknown[0];
    unknown.erase(unknown.begin());
  }
  if (!unknown.empty()) unknown_word(arguments, unknown[0]);
  return line;
}

void apply_command_line(const CommandLine& line) {
  for (const auto& [argument, flag, words] : line.uses) {
    if (argument->type->is_list)
      read_list(*argument, words, kTag + flag);
    else
      argument->type->read_text(argument->value, words.at(0), kTag + flag);
  }
}

}  // namespace tendril
