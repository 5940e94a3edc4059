#include <tendril/trainer/arguments/list.h>

#include <tendril/core/error.h>
#include <tendril/core/nearest_name.h>

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
  std::vector<std::string> names;
  for (const Argument& argument : arguments) names.push_back(argument.name);
  constexpr size_t kLongest = 60;
  const std::string nearest = nearest_name(names, name);
  fail(where, "there is no argument named ",
       name.size() > kLongest ? json_quote(name).substr(0, kLongest) : name,
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
