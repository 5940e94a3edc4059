// How training is spread over processes: what fsdp, fsdp_config, deepspeed, the ddp_* arguments and
// the launcher's environment ask for, in one place. docs/distributed.md lists the keys.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include <tendril/dist/fully_sharded.h>
#include <tendril/trainer/training_arguments.h>

namespace tendril {

/// How a checkpoint of a sharded run holds weights and optimizer state.
enum class StateDictType {
  full,     // model.safetensors, written by the first process; the optimizer's state in shards
  sharded,  // both in shards, which any number of processes can read
};

struct ShardingPlan {
  bool sharded = false;  // otherwise every process has the whole model
  dist::FullyShardedOptions options;
  /// Of hybrid strategies: how many processes in a row share one copy; 0: those of a machine.
  int shard_group_size = 0;
  /// Exchange gradients after every batch of a step, so that each process keeps its part only
  /// (ZeRO-2 and 3). Otherwise after the last (data parallel, ZeRO-1).
  bool reduces_every_batch = false;
  bool activation_checkpointing = false;
  StateDictType state_dict_type = StateDictType::full;

  bool is_hybrid() const {
    return options.strategy == dist::ShardingStrategy::hybrid_shard ||
           options.strategy == dist::ShardingStrategy::hybrid_shard_zero2;
  }
};

/// Looks up an environment variable; nullopt when it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
/// The process's own.
TENDRIL_API Environment process_environment();

/// Arguments given to the program come before the launcher's environment. Error that names every
/// key that is unknown, that cannot apply here, or that contradicts the arguments.
TENDRIL_API ShardingPlan make_sharding_plan(const TrainingArguments& args, nn::Module& model,
                                            int world_size,
                                            const Environment& environment = process_environment());

/// Fills what the arguments leave open as the launcher says: bf16 or fp16 from
/// ACCELERATE_MIXED_PRECISION when neither is set, use_cpu from ACCELERATE_USE_CPU.
TENDRIL_API void apply_launch_environment(TrainingArguments& args, const Environment& environment);

/// Whether an optimizer looks at whole parameters, so that sharding gives each to one process.
/// Error for a name that there is not.
TENDRIL_API bool needs_whole_parameters(const std::string& optim);

}  // namespace tendril
