// The named choices among training arguments. Their texts are the enumerators' names.
#pragma once

namespace tendril {

enum class IntervalStrategy { no, steps, epoch };
enum class SaveStrategy { no, steps, epoch, best };
enum class SamplingStrategy { random, sequential, group_by_length };
enum class NonfinitePolicy { stop, skip, continue_ };  // "continue"
enum class NeftuneLength { sequence, padded };
enum class SchedulerType {
  linear,
  cosine,
  cosine_with_restarts,
  polynomial,
  constant,
  constant_with_warmup,
  inverse_sqrt,
  reduce_lr_on_plateau,
  cosine_with_min_lr,
  cosine_warmup_with_min_lr,
  warmup_stable_decay
};

}  // namespace tendril
