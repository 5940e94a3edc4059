// Arguments as data: a name, a help text and a variable each. The fields of TrainingArguments and a
// program's own options stand side by side in one list, which files and the command line fill.
#pragma once

#include <string>
#include <vector>

#include <tendril/trainer/arguments/file.h>
#include <tendril/trainer/arguments/type.h>
#include <tendril/trainer/training_arguments.h>

namespace tendril {

struct Argument {
  std::string section;  // heading in --help; empty for a program's own options
  std::string name;     // with underscores, without dashes in front
  std::string help;
  const ArgumentType* type = nullptr;
  void* value = nullptr;  // of the type's C++ type; lives longer than the list
};
using ArgumentList = std::vector<Argument>;

/// Every field of `arguments`, in the order of training_arguments.def.
ArgumentList arguments_of(TrainingArguments& arguments);

/// The argument of this name. Otherwise an Error that begins with `where` and gives the nearest
/// name, or says why a name that the Hugging Face Trainer knows does not apply here.
const Argument& find_argument(const ArgumentList& arguments, const std::string& name,
                              const std::string& where);

/// Writes the settings of a file to the arguments' variables.
void apply_settings(const ArgumentList& arguments, const std::vector<ArgumentSetting>& settings);

}  // namespace tendril
