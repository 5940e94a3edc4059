// The text of --help.
#pragma once

#include <string>
#include <vector>

#include <tendril/trainer/arguments/list.h>

namespace tendril {

/// A reference of all arguments, at most 100 columns wide. The defaults are what the variables hold
/// now. Sections follow their order in the list, but a program's own options and then
/// `sections_first` come before the others.
std::string argument_help(const std::string& program, const std::string& description,
                          const ArgumentList& arguments,
                          const std::vector<std::string>& sections_first);

}  // namespace tendril
