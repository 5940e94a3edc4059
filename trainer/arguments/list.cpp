#include <tendril/trainer/arguments/list.h>

#include <algorithm>
#include <array>
#include <numeric>

#include <tendril/core/error.h>

namespace tendril {
namespace {

struct InapplicableArgument {
  const char* name;
  const char* why;
};

#define SECTION(title)
#define ARG(type, name, default_value, help)
#define INAPPLICABLE(name, why) InapplicableArgument{#name, why},
constexpr InapplicableArgument kInapplicable[] = {
#include <tendril/trainer/training_arguments.def>
};

// Insertions, deletions, changes of one character and swaps of neighbours that make `a` of `b`
// (optimal string alignment), row by row.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> before_last, last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = last[j - 1] + (a[i - 1] != b[j - 1]);
      row[j] = std::min({change, last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
    before_last = last;
    last = row;
  }
  return last[b.size()];
}

// Empty when none is so near that it may have been meant.
std::string nearest_name(const ArgumentList& arguments, const std::string& name) {
  std::string nearest;
  size_t least = std::max<size_t>(2, name.size() / 3) + 1;
  for (const Argument& argument : arguments) {
    const size_t distance = edit_distance(name, argument.name);
    if (distance < least) least = distance, nearest = argument.name;
  }
  return nearest;
}

}  // namespace

ArgumentList arguments_of(TrainingArguments& arguments) {
  ArgumentList list;
  const char* section = "";
#define SECTION(title) section = title;
#define ARG(type, name, default_value, help) \
  list.push_back({section, #name, help, &argument_type<type>(), &arguments.name});
#define INAPPLICABLE(name, why)
#include <tendril/trainer/training_arguments.def>
  return list;
}

const Argument& find_argument(const ArgumentList& arguments, const std::string& name,
                              const std::string& where) {
  for (const Argument& argument : arguments)
    if (argument.name == name) return argument;
  for (const auto& [inapplicable, why] : kInapplicable)
    if (name == inapplicable) fail(where, name, " does not apply: ", why);
  constexpr size_t kLongest = 60;  // no argument's name comes near
  const bool is_long = name.size() > kLongest;
  const std::string nearest = is_long ? "" : nearest_name(arguments, name);
  fail(where, "there is no argument named ", is_long ? json_quote(name).substr(0, kLongest) : name,
       nearest.empty() ? "; --help lists them all" : "; did you mean " + nearest + "?");
}

void apply_settings(const ArgumentList& arguments, const std::vector<ArgumentSetting>& settings) {
  for (const ArgumentSetting& setting : settings) {
    const Argument& argument = find_argument(arguments, setting.name, setting.where);
    const std::string where = setting.where + argument.name;
    if (setting.text)
      argument.type->read_text(argument.value, *setting.text, where);
    else
      argument.type->read_json(argument.value, setting.value, where);
  }
}

}  // namespace tendril
