// The checks of DeepSpeed's keys, and of its own file as far as the launcher's keys touch it.
#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/core/json.h>
#include <tendril/dist/launch/keys.h>
#include <tendril/dist/launch/paradigm.h>
#include <tendril/dist/launch/read_value.h>

namespace tendril::launch {
namespace {

// What must not stand in two places.
const std::vector<std::string> kFileKeys = {
    "gradient_accumulation_steps", "gradient_clipping",     "zero_stage",
    "offload_optimizer_device",    "offload_param_device",  "offload_optimizer_nvme_path",
    "offload_param_nvme_path",     "zero3_save_16bit_model"};

bool is_enabled(const Json& file, const char* section) {
  const Json* object = file.find(section);
  const Json* enabled = object && object->is_object() ? object->find("enabled") : nullptr;
  return enabled && enabled->kind() == Json::Kind::boolean && enabled->as_bool();
}

// A dtype from the command line or the environment must not contradict the file.
void check_precision(const LaunchConfig& config, const Json& file) {
  for (const char* dtype : {"fp16", "bf16"})
    TENDRIL_CHECK(!config.is_set("mixed_precision") || !is_enabled(file, dtype) ||
                      config.mixed_precision == dtype,
                  "[launch] mixed_precision is ", config.mixed_precision, ", but ",
                  config.deepspeed_config_file, " enables ", dtype, "; leave mixed_precision out");
}

// The stage that DeepSpeed's file asks for.
int64_t check_file(const LaunchConfig& config) {
  const std::string& path = config.deepspeed_config_file;
  std::vector<std::string> conflicts;
  for (const std::string& key : kFileKeys)
    if (config.is_set(key)) conflicts.push_back(key);
  if (config.source("mixed_precision") == Source::file) conflicts.push_back("mixed_precision");
  TENDRIL_CHECK(conflicts.empty(),
                "[launch] with a deepspeed_config_file these belong into it, and "
                "nowhere else: ",
                join(conflicts, ", "), "; move them to ", path);
  const Json file = Json::parse(read_text_file(path), path);
  const Json* zero = file.is_object() ? file.find("zero_optimization") : nullptr;
  TENDRIL_CHECK(zero && zero->is_object(), "[launch] ", path,
                " has no zero_optimization; {\"zero_optimization\": {\"stage\": 2}} would be one");
  check_precision(config, file);
  const Json* stage = zero->find("stage");
  TENDRIL_CHECK(!stage || stage->is_integer(), "[launch] ", path,
                ": zero_optimization.stage must be 0, 1, 2 or 3");
  return stage ? stage->as_int() : 0;
}

void check_keys(const LaunchConfig& config, Run& run) {
  TENDRIL_CHECK(config.offload_optimizer_device != "nvme" && config.offload_param_device != "nvme",
                "[launch] offloading to disks (nvme) is not in this version; use cpu");
  if (config.gradient_accumulation_steps != "auto") {
    int64_t steps = 0;
    read_value(steps, config.gradient_accumulation_steps, "[launch] gradient_accumulation_steps");
    TENDRIL_CHECK(steps >= 1, "[launch] gradient_accumulation_steps must be at least 1; got ",
                  steps);
  }
  if (config.gradient_clipping != "auto") {
    double norm = 0.0;
    read_value(norm, config.gradient_clipping, "[launch] gradient_clipping");
    TENDRIL_CHECK(norm >= 0.0, "[launch] gradient_clipping must be at least 0; got ", norm);
  }
  if (config.offload_param_device != "none" && config.zero_stage != 3)
    run.warnings.push_back(
        "offload_param_device has no effect: weights are sharded at zero_stage 3 "
        "only, and this is stage " +
        std::to_string(config.zero_stage));
}

}  // namespace

std::vector<std::string> deepspeed_fields(const LaunchConfig& config) {
  std::vector<std::string> fields;
  for (const Key& key : keys())
    if ((key.section == "deepspeed_config" || key.name == "mixed_precision") &&
        config.source(key.name) == Source::file)
      fields.push_back(key.name);
  return fields;
}

void check_deepspeed(const LaunchConfig& config, Run& run) {
  int64_t stage = config.zero_stage;
  if (!config.deepspeed_config_file.empty())
    stage = check_file(config);
  else
    check_keys(config, run);
  TENDRIL_CHECK(stage >= 0 && stage <= 3, "[launch] zero_stage must be 0, 1, 2 or 3; got ", stage);
  run.zero3_init = stage == 3 && config.zero3_init_flag.value_or(true);
  if (stage != 3 && config.zero3_init_flag.value_or(false))
    run.warnings.push_back(
        "zero3_init_flag is turned off: it needs zero_stage 3, and this is stage " +
        std::to_string(stage));
}

}  // namespace tendril::launch
