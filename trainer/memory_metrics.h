// What a stage of the Trainer added to memory, and how much more it needed in between.
#pragma once

#include <string>

#include <tendril/nn/module.h>
#include <tendril/trainer/callback.h>

namespace tendril {

/// Measures from construction to finish(), on the device of the model's first parameter. An empty
/// stage measures nothing: an evaluation inside of training belongs to training.
class MemoryMetrics {
 public:
  MemoryMetrics(std::string stage, const TrainingArguments& args, const nn::Module& model);

  /// "<stage>_mem_cpu_alloc_delta" (bytes that stayed) and "_peaked_delta" (bytes above those, at
  /// the highest), or _gpu_; nothing with skip_memory_metrics.
  Metrics finish() const;

 private:
  std::string stage_;  // empty: off
  Device device_;
  int64_t before_ = 0;
};

}  // namespace tendril
