// Private to the trainer: a DeepSpeed configuration, TrainingArguments::deepspeed.
#pragma once

#include <string>

#include <tendril/trainer/sharding_plan.h>

namespace tendril::sharding {

struct DeepSpeedRequest {
  Json config;         // an object
  std::string origin;  // for messages
  int world_size = 1;
};

/// Stages of ZeRO as strategies. Error that names every key that is unknown, that asks for what
/// there is not, or whose value is neither "auto" nor what the arguments say.
ShardingPlan deepspeed_plan(const DeepSpeedRequest& request, const TrainingArguments& args,
                            nn::Module& model);

}  // namespace tendril::sharding
