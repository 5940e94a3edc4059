// Private to the trainer: TrainingArguments::fsdp and fsdp_config.
#pragma once

#include <optional>
#include <string>

#include <tendril/trainer/sharding_plan.h>

namespace tendril::sharding {

/// What the words of TrainingArguments::fsdp say.
struct FsdpWords {
  std::optional<dist::ShardingStrategy> strategy;
  bool offload = false, auto_wrap = false;
};

/// "full_shard auto_wrap", "shard_grad_op offload", "true" (full_shard), ...; nullopt for "" and
/// "false". Error that begins with `where` for unknown words, two strategies and offload alone.
std::optional<FsdpWords> fsdp_words(const std::string& text, const std::string& where);

struct FsdpRequest {
  FsdpWords words;
  Json config;         // an object; fsdp_ before a key does not matter
  std::string origin;  // of the config, for messages
  int world_size = 1;
};

/// Error that names everything wrong about the request.
ShardingPlan fsdp_plan(const FsdpRequest& request, const TrainingArguments& args,
                       nn::Module& model);

/// Dtypes of gathered weights, of gradients on the wire and of buffers, as bf16 and fp16 ask for.
/// The parts stay in the model's dtype, f32.
void set_precision(dist::FullyShardedOptions& options, const TrainingArguments& args);

}  // namespace tendril::sharding
