#include <tendril/dist/launch/paradigm.h>

#include <array>
#include <map>

#include <tendril/core/error.h>
#include <tendril/core/nearest_name.h>
#include <tendril/dist/launch/keys.h>
#include <tendril/dist/launch/read_value.h>

namespace tendril::launch {
namespace {

// --cpu, --multi_gpu, --use_fsdp and --use_deepspeed: at most one.
void check_exclusive(const LaunchConfig& config) {
  std::vector<std::string> flags;
  const auto note = [&](bool value, const char* name) {
    if (value && config.source(name) == Source::command_line)
      flags.push_back(std::string("--") + name);
  };
  note(config.cpu, "cpu");
  note(config.multi_gpu, "multi_gpu");
  note(config.use_deepspeed, "use_deepspeed");
  note(config.use_fsdp, "use_fsdp");
  TENDRIL_CHECK(flags.size() <= 1,
                "[launch] at most one of --cpu, --multi_gpu, --use_deepspeed and "
                "--use_fsdp may be given; got ",
                join(flags, " "),
                config.cpu ? "; to shard on the CPU write --use_cpu instead of --cpu" : "");
  TENDRIL_CHECK(
      !(config.use_fsdp && config.use_deepspeed &&
        config.source("use_fsdp") == config.source("use_deepspeed")),
      "[launch] ACCELERATE_USE_FSDP and ACCELERATE_USE_DEEPSPEED are both true; unset one");
}

Choice from_type(const std::string& type) {
  if (type == "NO") return {.is_one_process = true};
  if (type == "MULTI_CPU") return {.wants_cpu = true};
  if (type == "MULTI_GPU") return {.wants_gpus = true};
  if (type == "FSDP") return {.paradigm = Paradigm::fsdp};
  if (type == "DEEPSPEED") return {.paradigm = Paradigm::deepspeed};
  static const std::map<std::string, std::string> kReasons = {
      {"MEGATRON_LM", "tensor and pipeline parallelism are not in this version; use FSDP"},
      {"TP", "tensor parallelism is not in this version; use FSDP"},
      {"XLA", "there is no TPU back end"},
      {"TPU", "there is no TPU back end"}};
  if (const auto found = kReasons.find(type); found != kReasons.end())
    fail("[launch] distributed_type ", type, " cannot be served: ", found->second);
  if (type.starts_with("MULTI_"))
    fail("[launch] distributed_type ", type,
         " cannot be served: ranks work on CPUs or NVIDIA GPUs; use MULTI_CPU or MULTI_GPU");
  const std::vector<std::string> names = {"NO", "MULTI_CPU", "MULTI_GPU", "FSDP", "DEEPSPEED"};
  const std::string nearest = nearest_name(names, type);
  fail("[launch] distributed_type must be one of ", join(names, ", "), "; got ", type,
       nearest.empty() ? "" : "; did you mean " + nearest + "?");
}

}  // namespace

Choice choose_paradigm(const LaunchConfig& config) {
  check_exclusive(config);
  // From the strongest source to the weakest.
  for (const Source source : {Source::command_line, Source::environment, Source::file}) {
    const auto names = [&](bool value, const char* key) {
      return value && config.source(key) == source;
    };
    if (names(config.use_fsdp, "use_fsdp")) return {.paradigm = Paradigm::fsdp};
    if (names(config.use_deepspeed, "use_deepspeed")) return {.paradigm = Paradigm::deepspeed};
    if (names(config.multi_gpu, "multi_gpu")) return {.wants_gpus = true};
    if (names(config.cpu, "cpu")) return {.wants_cpu = true};
    if (config.source("distributed_type") == source && !config.distributed_type.empty())
      return from_type(uppercase(config.distributed_type));
  }
  return {};
}

void check_fsdp(const LaunchConfig& config, Run& run) {
  const int64_t version = config.fsdp_version;
  TENDRIL_CHECK(version == 1 || version == 2, "[launch] fsdp_version must be 1 or 2; got ",
                version);
  TENDRIL_CHECK(config.fsdp_min_num_params >= 0,
                "[launch] fsdp_min_num_params must be at least 0; got ",
                config.fsdp_min_num_params);
  if (version == 2) {
    TENDRIL_CHECK(!config.fsdp_forward_prefetch.value_or(false),
                  "[launch] fsdp_forward_prefetch is for fsdp_version 1; leave it out");
    TENDRIL_CHECK(config.fsdp_state_dict_type != "LOCAL_STATE_DICT",
                  "[launch] fsdp_state_dict_type LOCAL_STATE_DICT is for fsdp_version 1; use "
                  "SHARDED_STATE_DICT");
    std::vector<std::string> obsolete;
    for (const char* name : {"fsdp_sharding_strategy", "fsdp_backward_prefetch",
                             "fsdp_sync_module_states", "fsdp_use_orig_params"})
      if (config.is_set(name)) obsolete.emplace_back(name);
    if (!obsolete.empty())
      run.warnings.push_back(join(obsolete, ", ") +
                             " have no effect with fsdp_version 2; it has "
                             "fsdp_reshard_after_forward");
    return;
  }
  TENDRIL_CHECK(config.fsdp_sync_module_states || !config.fsdp_cpu_ram_efficient_loading,
                "[launch] fsdp_cpu_ram_efficient_loading loads rank 0's weights only, so it needs "
                "fsdp_sync_module_states; turn on both, or neither");
}

bool uses_meshes(const LaunchConfig& config) {
  if (config.use_parallelism_config) return true;
  return config.parallelism_config_dp_replicate_size != 1 ||
         config.parallelism_config_dp_shard_size != 1;
}

void check_meshes(const LaunchConfig& config, const Run& run) {
  if (!uses_meshes(config)) return;
  const int64_t copies = config.parallelism_config_dp_replicate_size;
  const int64_t shards = config.parallelism_config_dp_shard_size;
  TENDRIL_CHECK(run.paradigm == Paradigm::fsdp && config.fsdp_version == 2,
                "[launch] parallelism_config needs FSDP with fsdp_version 2");
  TENDRIL_CHECK(copies >= 1 && shards >= 1 && copies <= run.num_processes &&
                    copies * shards == run.num_processes,
                "[launch] dp_replicate_size times dp_shard_size must be num_processes, ",
                run.num_processes, "; got ", copies, " times ", shards);
}

}  // namespace tendril::launch
