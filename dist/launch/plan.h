// What will be started: commands and environments, ready to run or to print.
#pragma once

#include <string>
#include <vector>

#include <tendril/dist/launch/settle.h>

namespace tendril::launch {

struct PlannedProcess {
  std::string label;                 // "rank 3", "mpirun"
  std::vector<std::string> command;  // [0] is a path
  Environment variables;             // what the launcher sets; the rest is inherited
};

struct Plan {
  Run run;
  std::vector<PlannedProcess> processes;  // one when the launcher becomes the program
};

/// Error when the program cannot be started.
Plan make_plan(const LaunchConfig& config, const Environment& environment, const Machine& machine);

/// For people and tests: a block for each process, its variables, then its command as a shell
/// would read it.
std::string describe(const Plan& plan);

}  // namespace tendril::launch
