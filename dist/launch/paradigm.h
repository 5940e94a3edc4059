// Which way of training across processes a configuration asks for, and whether its keys agree.
#pragma once

#include <tendril/dist/launch/settle.h>

namespace tendril::launch {

struct Choice {
  Paradigm paradigm = Paradigm::data_parallel;
  bool wants_cpu = false;
  bool wants_gpus = false;      // several, and says so
  bool is_one_process = false;  // distributed_type NO
};

/// The strongest source that names one decides; two in the same source are an Error.
Choice choose_paradigm(const LaunchConfig& config);

// Errors for keys that contradict each other; what merely has no effect becomes a warning.
void check_fsdp(const LaunchConfig& config, Run& run);
void check_deepspeed(const LaunchConfig& config, Run& run);
void check_meshes(const LaunchConfig& config, const Run& run);

/// Whether parallelism_config_* counts.
bool uses_meshes(const LaunchConfig& config);

/// The keys of deepspeed_config, and mixed_precision, that the configuration's file sets.
std::vector<std::string> deepspeed_fields(const LaunchConfig& config);

}  // namespace tendril::launch
