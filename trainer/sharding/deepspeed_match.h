// Private to the trainer: the parts of a DeepSpeed configuration that say again what arguments say:
// batch sizes, clipping, precision, optimizer and schedule.
#pragma once

#include <tendril/trainer/sharding/config_section.h>
#include <tendril/trainer/training_arguments.h>

namespace tendril::sharding {

/// Takes those keys. A value that is set, not "auto", and differs from the arguments is a problem.
void match_arguments(ConfigSection& config, const TrainingArguments& args, int world_size,
                     Problems& problems);

}  // namespace tendril::sharding
