#include <tendril/core/error.h>
#include <tendril/trainer/step_plan.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace tendril {

StepPlan StepPlan::make(const TrainingArguments& args, std::optional<int64_t> batches,
                        std::optional<int64_t> examples, int64_t total_batch_size) {
  const int64_t accumulation = args.gradient_accumulation_steps;
  StepPlan plan;
  plan.batches_per_epoch = batches;
  TENDRIL_CHECK(batches != 0, "[train] the training data give no batch; got ", examples.value_or(0),
                " examples, ", "per_device_train_batch_size ", args.per_device_train_batch_size,
                ", dataloader_drop_last ", args.dataloader_drop_last ? "true" : "false");
  if (!batches) {
    TENDRIL_CHECK(args.max_steps > 0,
                  "[train] the training data do not know their size, so max_steps must say when to "
                  "stop; got max_steps ",
                  args.max_steps);
    plan.max_steps = plan.updates_per_epoch = args.max_steps;
    plan.num_train_epochs = std::numeric_limits<int64_t>::max();
    plan.num_train_samples = static_cast<double>(args.max_steps * total_batch_size);
    return plan;
  }
  plan.updates_per_epoch = (*batches + accumulation - 1) / accumulation;
  if (args.max_steps > 0) {
    plan.max_steps = args.max_steps;
    plan.num_train_epochs = (args.max_steps + plan.updates_per_epoch - 1) / plan.updates_per_epoch;
    plan.num_train_samples = static_cast<double>(args.max_steps * total_batch_size);
  } else {
    plan.max_steps = static_cast<int64_t>(
        std::ceil(args.num_train_epochs * static_cast<double>(plan.updates_per_epoch)));
    plan.num_train_epochs = static_cast<int64_t>(std::ceil(args.num_train_epochs));
    plan.num_train_samples = static_cast<double>(examples.value_or(0)) * args.num_train_epochs;
  }
  return plan;
}

double StepPlan::epoch_after(int64_t epoch, int64_t batch, int64_t accumulation) const {
  const int64_t all = batches_per_epoch.value_or(max_steps * accumulation);
  return static_cast<double>(epoch) +
         static_cast<double>(batch) / static_cast<double>(std::max<int64_t>(all, 1));
}

double resolve_steps(double value, int64_t max_steps) {
  return value < 1.0 ? std::ceil(static_cast<double>(max_steps) * value) : value;
}

}  // namespace tendril
