#include <tendril/trainer/arguments/help.h>

#include <algorithm>
#include <iterator>
#include <sstream>

namespace tendril {
namespace {

constexpr size_t kWidth = 100, kTextColumn = 34;

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

// `words` in lines of at most kWidth columns; every line after the first begins with `indent`
// spaces.
std::string wrapped(const std::vector<std::string>& words, size_t indent) {
  std::string out;
  size_t column = indent;
  for (const std::string& word : words) {
    if (!out.empty() && column + 1 + word.size() > kWidth) {
      out += '\n' + std::string(indent, ' ');
      column = indent;
    } else if (!out.empty()) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

// "(default: 8)"; nothing for an empty text or list.
std::string default_text(const Argument& argument) {
  const Json value = argument.type->to_json(argument.value);
  std::string text;
  if (value.is_null()) {
    text = "unset";
  } else if (value.is_string()) {
    text = value.as_string();
  } else if (value.is_array()) {
    for (const Json& item : value.items()) text += (text.empty() ? "" : ",") + item.as_string();
  } else {
    text = value.dump();
  }
  return text.empty() ? "" : "(default: " + text + ")";
}

std::string entry(const Argument& argument) {
  std::string out = "  --" + argument.name;
  if (!argument.type->placeholder.empty()) out += ' ' + argument.type->placeholder;
  size_t column = out.size();
  if (column + 2 > kTextColumn) {
    out += '\n';
    column = 0;
  }
  out += std::string(kTextColumn - column, ' ');
  std::string text = argument.help;
  for (size_t i = 0; i < argument.type->choices.size(); ++i)
    text += (i == 0 ? "; one of " : ", ") + argument.type->choices[i];
  std::vector<std::string> words = words_of(text);
  const std::string value = default_text(argument);
  constexpr size_t kUnbroken = 40;
  if (value.size() > kUnbroken)
    for (const std::string& word : words_of(value)) words.push_back(word);
  else if (!value.empty())
    words.push_back(value);
  return out + wrapped(words, kTextColumn) + '\n';
}

std::vector<std::string> section_order(const ArgumentList& arguments,
                                       const std::vector<std::string>& sections_first) {
  std::vector<std::string> order = {""};
  order.insert(order.end(), sections_first.begin(), sections_first.end());
  for (const Argument& argument : arguments)
    if (std::find(order.begin(), order.end(), argument.section) == order.end())
      order.push_back(argument.section);
  return order;
}

}  // namespace

std::string argument_help(const std::string& program, const std::string& description,
                          const ArgumentList& arguments,
                          const std::vector<std::string>& sections_first) {
  std::string out = "Usage: " + program + " [FILE.json | FILE.yaml] [--name value ...]\n\n";
  if (!description.empty()) out += wrapped(words_of(description), 0) + "\n\n";
  out +=
      wrapped(words_of("A file, given first or with --config FILE, may set everything that "
                       "follows; the command line overrides it. Names may be written with "
                       "dashes, values after a space or an equals sign. A switch stands alone or "
                       "before true or false, and --no_NAME turns it off. Lists are words parted "
                       "by spaces or commas. null unsets what may be unset."),
              0) +
      "\n";
  for (const std::string& section : section_order(arguments, sections_first)) {
    std::string entries;
    for (const Argument& argument : arguments)
      if (argument.section == section) entries += entry(argument);
    if (!entries.empty()) out += '\n' + (section.empty() ? "Options" : section) + ":\n" + entries;
  }
  return out;
}

}  // namespace tendril
