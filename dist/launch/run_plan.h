// Carries a plan out.
#pragma once

#include <tendril/dist/launch/plan.h>

namespace tendril::launch {

/// The exit code of the run. Does not return where the launcher becomes the program.
int run_plan(const Plan& plan, const LaunchConfig& config, const Environment& environment);

/// What --tee says for a rank of this machine: bit 0 stdout, bit 1 stderr. "3" for all, or
/// "0:3,1:1" for each. Error when it is neither.
int tee_of(const std::string& tee, int64_t local_rank);

}  // namespace tendril::launch
