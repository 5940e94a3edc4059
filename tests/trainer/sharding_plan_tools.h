// Helpers for tests of how arguments and environments become a ShardingPlan.
#pragma once

#include <map>
#include <string>

#include <tendril/trainer/sharding_plan.h>

#include "trainer_tools.h"

namespace tendril::testing {

using Variables = std::map<std::string, std::string>;

inline Environment environment_of(const Variables& variables) {
  return [variables](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
}

inline Json json_of(const std::string& text) { return Json::parse(text, "test"); }

inline nn::models::Gpt2& plan_model() {
  static nn::models::Gpt2 model(tiny_gpt_config());
  return model;
}

inline ShardingPlan plan_of(const TrainingArguments& args, const Variables& variables = {},
                            int world_size = 2) {
  return make_sharding_plan(args, plan_model(), world_size, environment_of(variables));
}

inline ShardingPlan fsdp_plan_of(const std::string& fsdp, const std::string& config = "null",
                                 int world_size = 2) {
  return plan_of({.fsdp = fsdp, .fsdp_config = json_of(config)}, {}, world_size);
}

inline ShardingPlan deepspeed_plan_of(const std::string& config, TrainingArguments args = {}) {
  args.deepspeed = json_of(config);
  return plan_of(args);
}

/// The names of a plan's units.
inline std::vector<std::string> units_of(const ShardingPlan& plan) {
  return plan.options.wrap ? plan.options.wrap(plan_model()) : std::vector<std::string>{};
}

/// Everything that a plan says, as text.
inline std::string describe(const ShardingPlan& plan) {
  if (!plan.sharded) return "not sharded";
  const dist::FullyShardedOptions& o = plan.options;
  const auto dtype = [](const std::optional<DType>& d) { return d ? name(*d) : "as it is"; };
  std::string units;
  for (const std::string& unit : units_of(plan)) units += unit + " ";
  std::string ignored;
  for (const std::string& module : o.ignored_modules) ignored += module + " ";
  return detail::concat(
      name(o.strategy), "; units ", units, "; dtypes ", dtype(o.param_dtype), ", ",
      dtype(o.reduce_dtype), ", ", dtype(o.buffer_dtype), "; prefetch ", o.forward_prefetch,
      static_cast<int>(o.backward_prefetch), o.limit_all_gathers, "; offload ", o.cpu_offload,
      "; sync ", o.sync_module_states, "; ignored ", ignored, "; group ", plan.shard_group_size,
      "; every batch ", plan.reduces_every_batch, "; recompute ", plan.activation_checkpointing,
      "; saved ", plan.state_dict_type == StateDictType::sharded ? "sharded" : "full");
}

}  // namespace tendril::testing
