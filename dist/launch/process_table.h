// Which processes there are, as /proc shows them.
#pragma once

#include <sys/types.h>

#include <vector>

namespace tendril::launch {

struct ProcessEntry {
  pid_t process = 0, parent = 0, group = 0, session = 0;
};

/// All that still run; those that only wait to be asked for their exit code do not count.
std::vector<ProcessEntry> living_processes();

}  // namespace tendril::launch
