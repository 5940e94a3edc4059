#include <tendril/dist/launch/worker_environment.h>

#include <set>

#include <tendril/dist/launch/keys.h>
#include <tendril/dist/launch/paradigm.h>
#include <tendril/dist/launch/read_value.h>

namespace tendril::launch {
namespace {

const std::set<std::string> kRankVariables = {
    "RANK",       "LOCAL_RANK",  "WORLD_SIZE",  "LOCAL_WORLD_SIZE",
    "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", "ACCELERATE_CONFIG_DS_FIELDS"};

// A key's value under its variable; values that leave the choice to the program are left out.
void add(Environment& variables, const LaunchConfig& config, const char* name) {
  const Key& key = *find_key(name);
  const std::string text = key.text(config);
  if (!text.empty() && text != "auto") variables[key.variable] = text;
}

void add_section(Environment& variables, const LaunchConfig& config, const std::string& section,
                 const std::set<std::string>& except = {}) {
  for (const Key& key : keys())
    if (key.section == section && key.use == Key::Use::used && !except.contains(key.name))
      add(variables, config, key.name.c_str());
}

void add_fsdp(Environment& variables, const LaunchConfig& config) {
  variables["ACCELERATE_USE_FSDP"] = "true";
  std::set<std::string> obsolete;
  if (config.fsdp_version == 2)
    obsolete = {"fsdp_sharding_strategy", "fsdp_backward_prefetch", "fsdp_forward_prefetch",
                "fsdp_sync_module_states", "fsdp_use_orig_params"};
  add_section(variables, config, "fsdp_config", obsolete);
  if (!uses_meshes(config)) return;
  variables["ACCELERATE_USE_PARALLELISM_CONFIG"] = "true";
  add_section(variables, config, "parallelism_config");
}

void add_deepspeed(Environment& variables, const LaunchConfig& config, const Run& run) {
  variables["ACCELERATE_USE_DEEPSPEED"] = "true";
  if (config.deepspeed_config_file.empty())
    add_section(variables, config, "deepspeed_config");
  else
    add(variables, config, "deepspeed_config_file");
  variables["ACCELERATE_DEEPSPEED_ZERO3_INIT"] = run.zero3_init ? "true" : "false";
  if (const std::string fields = join(deepspeed_fields(config), ","); !fields.empty())
    variables["ACCELERATE_CONFIG_DS_FIELDS"] = fields;
}

}  // namespace

Environment shared_variables(const LaunchConfig& config, const Run& run) {
  Environment variables;
  // A DeepSpeed file says which precision; then only what was asked for beside it is passed on.
  if (config.deepspeed_config_file.empty() || config.is_set("mixed_precision"))
    add(variables, config, "mixed_precision");
  add(variables, config, "debug");
  variables["ACCELERATE_USE_CPU"] = run.on_cpu ? "true" : "false";
  variables["OMP_NUM_THREADS"] = std::to_string(run.threads);
  if (!run.on_cpu && config.gpu_ids != "all") variables["CUDA_VISIBLE_DEVICES"] = config.gpu_ids;
  if (run.paradigm == Paradigm::fsdp) add_fsdp(variables, config);
  if (run.paradigm == Paradigm::deepspeed) add_deepspeed(variables, config, run);
  return variables;
}

Environment rank_variables(const Run& run, int64_t local_index) {
  if (run.master_addr.empty()) return {};
  return {{"RANK", std::to_string(run.first_rank + local_index)},
          {"LOCAL_RANK", std::to_string(run.first_local_rank + local_index)},
          {"WORLD_SIZE", std::to_string(run.num_processes)},
          {"LOCAL_WORLD_SIZE", std::to_string(run.local_processes)},
          {"GROUP_RANK", std::to_string(run.machine_rank)},
          {"MASTER_ADDR", run.master_addr},
          {"MASTER_PORT", std::to_string(run.master_port)}};
}

bool is_owned(const std::string& variable) {
  if (kRankVariables.contains(variable)) return true;
  if (!variable.starts_with("ACCELERATE_") && !variable.starts_with("FSDP_") &&
      !variable.starts_with("PARALLELISM_CONFIG_"))
    return false;
  for (const Key& key : keys())
    if (key.variable == variable) return true;
  return false;
}

Environment merged(const Environment& inherited, const Environment& variables) {
  Environment result = variables;
  for (const auto& [name, value] : inherited)
    if (!is_owned(name)) result.emplace(name, value);  // what `variables` has stays
  return result;
}

}  // namespace tendril::launch
