// A command line taken apart: which arguments it names, with which words.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <tendril/trainer/arguments/list.h>

namespace tendril {

struct CommandLine {
  struct Use {
    const Argument* argument = nullptr;
    std::string flag;                // as it is known: "--bf16", "--no_bf16"
    std::vector<std::string> words;  // of a list all of them, otherwise one
  };
  bool wants_help = false;
  std::optional<std::string> file;  // --config FILE, or a word that names one
  std::vector<Use> uses;            // in their order; a later one of the same argument counts
};

/// Understands --name value, --name=value, dashes for underscores, --switch, --switch false and
/// --no_switch. Error for what it does not know. `arguments` must outlive the result.
CommandLine read_command_line(const ArgumentList& arguments, int argc, const char* const* argv);

/// Writes what the line says to the arguments' variables; the file is the caller's to read before.
void apply_command_line(const CommandLine& line);

}  // namespace tendril
