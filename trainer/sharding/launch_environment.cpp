#include <tendril/trainer/sharding/launch_environment.h>

#include <algorithm>
#include <cstdlib>

#include <tendril/trainer/sharding/config_section.h>

namespace tendril {
namespace sharding {
namespace {

// Empty texts are variables that were cleared.
std::optional<std::string> variable(const Environment& environment, const std::string& name) {
  std::optional<std::string> value = environment(name);
  return value && !value->empty() ? value : std::nullopt;
}

bool is_on(const Environment& environment, const std::string& name) {
  const std::optional<std::string> value = variable(environment, name);
  if (!value) return false;
  const std::optional<bool> flag = flag_from(*value);
  TENDRIL_CHECK(flag, "[launch] ", name, " must be true or false; got \"", *value, "\"");
  return *flag;
}

struct Variable {
  const char* name;
  const char* key;
  int version;  // of FSDP that reads it; 0: both. Launchers set all of them.
};
constexpr Variable kFsdpVariables[] = {
    {"FSDP_VERSION", "version", 0},
    {"FSDP_SHARDING_STRATEGY", "sharding_strategy", 1},
    {"FSDP_RESHARD_AFTER_FORWARD", "reshard_after_forward", 2},
    {"FSDP_OFFLOAD_PARAMS", "offload_params", 0},
    {"FSDP_MIN_NUM_PARAMS", "min_num_params", 0},
    {"FSDP_AUTO_WRAP_POLICY", "auto_wrap_policy", 0},
    {"FSDP_TRANSFORMER_CLS_TO_WRAP", "transformer_layer_cls_to_wrap", 0},
    {"FSDP_BACKWARD_PREFETCH", "backward_prefetch", 1},
    {"FSDP_STATE_DICT_TYPE", "state_dict_type", 0},
    {"FSDP_FORWARD_PREFETCH", "forward_prefetch", 0},
    {"FSDP_USE_ORIG_PARAMS", "use_orig_params", 1},
    {"FSDP_CPU_RAM_EFFICIENT_LOADING", "cpu_ram_efficient_loading", 0},
    {"FSDP_SYNC_MODULE_STATES", "sync_module_states", 1},
    {"FSDP_ACTIVATION_CHECKPOINTING", "activation_checkpointing", 0},
    {"FSDP_IGNORED_MODULES", "ignored_modules", 0}};
constexpr Variable kMeshVariables[] = {
    {"PARALLELISM_CONFIG_DP_REPLICATE_SIZE", "dp_replicate_size", 2},
    {"PARALLELISM_CONFIG_DP_SHARD_SIZE", "dp_shard_size", 2}};

// With a file, what these say must stand in the file.
constexpr const char* kFileKeys[] = {
    "gradient_accumulation_steps", "gradient_clipping",      "zero_stage",
    "offload_optimizer_device",    "offload_param_device",   "offload_optimizer_nvme_path",
    "offload_param_nvme_path",     "zero3_save_16bit_model", "mixed_precision"};

void check_file_keys(const Environment& environment, const std::string& path) {
  const std::string fields =
      "," + variable(environment, "ACCELERATE_CONFIG_DS_FIELDS").value_or("") + ",";
  std::vector<std::string> both;
  for (const char* key : kFileKeys)
    if (fields.find("," + std::string(key) + ",") != std::string::npos) both.push_back(key);
  TENDRIL_CHECK(both.empty(), "[deepspeed] with a deepspeed_config_file the launcher's ",
                "configuration must not set ", listed(both), "; move them to ", path);
}

Json offload(const Environment& environment, const std::string& name) {
  Json section = Json::object();
  return section.set("device", variable(environment, name).value_or("none"));
}

Json zero_from(const Environment& environment) {
  Json zero = Json::object();
  const std::string prefix = "ACCELERATE_DEEPSPEED_";
  zero.set("stage", variable(environment, prefix + "ZERO_STAGE").value_or("2"));
  zero.set("offload_optimizer", offload(environment, prefix + "OFFLOAD_OPTIMIZER_DEVICE"));
  zero.set("offload_param", offload(environment, prefix + "OFFLOAD_PARAM_DEVICE"));
  if (const auto whole = variable(environment, prefix + "ZERO3_SAVE_16BIT_MODEL"))
    zero.set("stage3_gather_16bit_weights_on_model_save", *whole);
  return zero;
}

}  // namespace

Json fsdp_config_from(const Environment& environment) {
  if (!is_on(environment, "ACCELERATE_USE_FSDP")) return Json();
  const int version = variable(environment, "FSDP_VERSION").value_or("1") == "2" ? 2 : 1;
  Json config = Json::object();
  // Without a policy the launcher's defaults for classes and sizes mean nothing.
  config.set("auto_wrap_policy", "NO_WRAP");
  const auto take = [&](const Variable& entry) {
    const std::optional<std::string> value = variable(environment, entry.name);
    if (value && (entry.version == 0 || entry.version == version)) config.set(entry.key, *value);
  };
  for (const Variable& entry : kFsdpVariables) take(entry);
  if (is_on(environment, "ACCELERATE_USE_PARALLELISM_CONFIG"))
    for (const Variable& entry : kMeshVariables) take(entry);
  return config;
}

Json deepspeed_config_from(const Environment& environment) {
  if (!is_on(environment, "ACCELERATE_USE_DEEPSPEED")) return Json();
  TENDRIL_CHECK(!variable(environment, "ACCELERATE_DEEPSPEED_MOE_LAYER_CLS_NAMES"),
                "[deepspeed] ACCELERATE_DEEPSPEED_MOE_LAYER_CLS_NAMES is set, but mixtures of "
                "experts are not in this version");
  if (const auto path = variable(environment, "ACCELERATE_DEEPSPEED_CONFIG_FILE")) {
    check_file_keys(environment, *path);
    return read_config_file(*path);
  }
  Json config = Json::object();
  config.set("zero_optimization", zero_from(environment));
  config.set("gradient_accumulation_steps",
             variable(environment, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS").value_or("auto"));
  config.set("gradient_clipping",
             variable(environment, "ACCELERATE_GRADIENT_CLIPPING").value_or("auto"));
  return config;
}

}  // namespace sharding

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value ? std::optional<std::string>(value) : std::nullopt;
  };
}

void apply_launch_environment(TrainingArguments& args, const Environment& environment) {
  const std::string precision =
      sharding::variable(environment, "ACCELERATE_MIXED_PRECISION").value_or("no");
  const bool is_known = precision == "no" || precision == "bf16" || precision == "fp16";
  TENDRIL_CHECK(is_known, "[launch] ACCELERATE_MIXED_PRECISION must be no, bf16 or fp16; got \"",
                precision, "\"");
  if (!args.bf16 && !args.fp16) {
    args.bf16 = precision == "bf16";
    args.fp16 = precision == "fp16";
  }
  if (sharding::is_on(environment, "ACCELERATE_USE_CPU")) args.use_cpu = true;
}

}  // namespace tendril
