// A command line taken apart: the launcher's own flags, and the program with its arguments.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace tendril::launch {

struct CommandLine {
  bool wants_help = false;
  std::vector<std::pair<std::string, std::string>> flags;  // key and text, in their order
  std::vector<std::string> command;  // begins with the first word that is no flag
};

/// --name value and --name=value; switches stand alone or are --name=false (those of fsdp_config
/// and deepspeed_config also --name false). Everything after the program's name is the program's.
/// Error for flags that are not known, with the nearest one.
CommandLine read_command_line(const std::vector<std::string>& words);

}  // namespace tendril::launch
