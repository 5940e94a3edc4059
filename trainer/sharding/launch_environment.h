// Private to the trainer: what a launcher's environment asks for, in the words of the arguments, so
// that both give the same plan.
#pragma once

#include <tendril/trainer/sharding_plan.h>

namespace tendril::sharding {

/// ACCELERATE_USE_FSDP and FSDP_*, as an fsdp_config that leaves nothing to
/// TrainingArguments::fsdp; null where it is not set.
Json fsdp_config_from(const Environment& environment);
/// ACCELERATE_USE_DEEPSPEED and what belongs to it, as a DeepSpeed configuration; null where it is
/// not set. Reads the file of ACCELERATE_DEEPSPEED_CONFIG_FILE.
Json deepspeed_config_from(const Environment& environment);

}  // namespace tendril::sharding
