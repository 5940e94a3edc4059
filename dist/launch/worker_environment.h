// What ranks find in their environment: where they are, and what the Trainer's arguments may take
// from the configuration (docs/launch.md has the table).
#pragma once

#include <tendril/dist/launch/settle.h>

namespace tendril::launch {

/// The variables of all ranks alike. With `inherited` they make a rank's environment; what the
/// launcher owns in `inherited` does not reach the ranks.
Environment shared_variables(const LaunchConfig& config, const Run& run);

/// RANK, WORLD_SIZE, ... of one rank of this machine; empty where MPI tells the ranks, or where one
/// process on a CPU is alone.
Environment rank_variables(const Run& run, int64_t local_index);

/// Whether a variable is the launcher's to set: what a rank finds under such a name comes from this
/// configuration alone.
bool is_owned(const std::string& variable);

/// `inherited` without owned variables, then `variables`.
Environment merged(const Environment& inherited, const Environment& variables);

}  // namespace tendril::launch
