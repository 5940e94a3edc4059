// The choice between what arguments and the launcher's environment ask for. Keys and their meanings
// are in trainer/sharding/.
#include <tendril/trainer/sharding_plan.h>

#include <tendril/core/log.h>
#include <tendril/trainer/arguments/type.h>
#include <tendril/trainer/sharding/config_section.h>
#include <tendril/trainer/sharding/deepspeed.h>
#include <tendril/trainer/sharding/fsdp.h>
#include <tendril/trainer/sharding/launch_environment.h>

namespace tendril {
namespace {

using namespace sharding;

constexpr const char* kLauncher = "the launcher's environment";

struct Config {
  Json object;
  std::string origin;
};

// An argument that is an object, or the path of a file with one.
Config config_of(const Json& argument, const std::string& name) {
  if (argument.is_string()) return {read_config_file(argument.as_string()), argument.as_string()};
  if (argument.is_null()) return {Json::object(), name};
  TENDRIL_CHECK(argument.is_object(), "[", name, "] must be an object or the path of a file; got ",
                shown(argument));
  return {argument, name};
}

// The launcher's configuration, in which keys of fsdp_config replace its own.
Config over_launcher(Json config, const Json& fsdp_config) {
  if (fsdp_config.is_null()) return {std::move(config), kLauncher};
  const Config own = config_of(fsdp_config, "fsdp_config");
  constexpr std::string_view kPrefix = "fsdp_";
  for (const auto& [key, value] : own.object.members()) {
    const std::string plain = key.starts_with(kPrefix) ? key.substr(kPrefix.size()) : key;
    const bool wraps = plain == "min_num_params" || plain == "transformer_layer_cls_to_wrap";
    if (wraps) config.set("auto_wrap_policy", plain == "min_num_params" ? 2 : 1);
    config.set(plain, value);
  }
  return {std::move(config), own.origin + " and " + kLauncher};
}

std::optional<ShardingPlan> plan_of_arguments(const TrainingArguments& args, nn::Module& model,
                                              int world_size) {
  const std::optional<FsdpWords> words = fsdp_words(args.fsdp, "[fsdp] ");
  TENDRIL_CHECK(!words || args.deepspeed.is_null(),
                "[fsdp] fsdp and deepspeed are two ways to shard; set one");
  if (words) {
    Config config = config_of(args.fsdp_config, "fsdp_config");
    return fsdp_plan({*words, std::move(config.object), config.origin, world_size}, args, model);
  }
  if (args.deepspeed.is_null()) return std::nullopt;
  Config config = config_of(args.deepspeed, "deepspeed");
  return deepspeed_plan({std::move(config.object), config.origin, world_size}, args, model);
}

std::optional<ShardingPlan> plan_of_launcher(const TrainingArguments& args, nn::Module& model,
                                             int world_size, const Environment& environment) {
  Json fsdp = fsdp_config_from(environment), deepspeed = deepspeed_config_from(environment);
  TENDRIL_CHECK(fsdp.is_null() || deepspeed.is_null(),
                "[launch] ACCELERATE_USE_FSDP and ACCELERATE_USE_DEEPSPEED are both true");
  if (!fsdp.is_null()) {
    Config config = over_launcher(std::move(fsdp), args.fsdp_config);
    return fsdp_plan({{}, std::move(config.object), config.origin, world_size}, args, model);
  }
  if (!args.fsdp_config.is_null())
    log_warning(
        "[fsdp] fsdp_config has no effect, as fsdp does not turn sharding on; set it to "
        "full_shard, for example");
  if (deepspeed.is_null()) return std::nullopt;
  const std::string origin = environment("ACCELERATE_DEEPSPEED_CONFIG_FILE").value_or(kLauncher);
  return deepspeed_plan({std::move(deepspeed), origin, world_size}, args, model);
}

}  // namespace

ShardingPlan make_sharding_plan(const TrainingArguments& given, nn::Module& model, int world_size,
                                const Environment& environment) {
  TrainingArguments args = given;
  apply_launch_environment(args, environment);
  std::optional<ShardingPlan> plan = plan_of_arguments(args, model, world_size);
  if (!plan) plan = plan_of_launcher(args, model, world_size, environment);
  return plan.value_or(ShardingPlan{});
}

}  // namespace tendril
