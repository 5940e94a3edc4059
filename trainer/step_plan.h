// How many batches, steps and passes a run has.
#pragma once

#include <cstdint>
#include <optional>

#include <tendril/trainer/training_arguments.h>

namespace tendril {

struct TENDRIL_API StepPlan {
  int64_t max_steps = 0;                     // optimizer steps of the whole run
  int64_t num_train_epochs = 0;              // passes begun at most
  int64_t updates_per_epoch = 0;             // optimizer steps of one pass
  std::optional<int64_t> batches_per_epoch;  // nullopt: the data do not know
  double num_train_samples = 0.0;            // examples of the whole run, as planned

  /// `batches`: of one pass on this process; `examples`: in the dataset; `total_batch_size`:
  /// examples of one optimizer step on all processes. Error when neither max_steps nor the data say
  /// when to stop, or there is no batch at all.
  static StepPlan make(const TrainingArguments& args, std::optional<int64_t> batches,
                       std::optional<int64_t> examples, int64_t total_batch_size);

  /// Passes done, as a fraction, after `batch` batches of pass `epoch`.
  double epoch_after(int64_t epoch, int64_t batch, int64_t accumulation) const;
};

/// A number of steps that may be given as a fraction of all: ceil(max_steps * value) below 1.
TENDRIL_API double resolve_steps(double value, int64_t max_steps);

}  // namespace tendril
