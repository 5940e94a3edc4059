#include <tendril/trainer/callbacks/default_flow.h>

namespace tendril {
namespace {

bool is_multiple(int64_t step, double interval) {
  const auto every = static_cast<int64_t>(interval);
  return every > 0 && step % every == 0;
}

}  // namespace

void DefaultFlowCallback::on_step_end(CallbackContext& context) {
  const TrainingArguments& args = context.args;
  const TrainerState& state = context.state;
  TrainerControl& control = context.control;
  const int64_t step = state.global_step;

  if (step == 1 && args.logging_first_step) control.should_log = true;
  if (args.logging_strategy == IntervalStrategy::steps && is_multiple(step, state.logging_steps))
    control.should_log = true;
  if (args.eval_strategy == IntervalStrategy::steps && is_multiple(step, state.eval_steps) &&
      args.eval_delay <= static_cast<double>(step))
    control.should_evaluate = true;
  if (args.save_strategy == SaveStrategy::steps && is_multiple(step, state.save_steps))
    control.should_save = true;

  if (step >= state.max_steps) {
    control.should_training_stop = true;
    if (args.save_strategy == SaveStrategy::steps) control.should_save = true;
  }
}

void DefaultFlowCallback::on_epoch_end(CallbackContext& context) {
  const TrainingArguments& args = context.args;
  TrainerControl& control = context.control;
  if (args.logging_strategy == IntervalStrategy::epoch) control.should_log = true;
  if (args.eval_strategy == IntervalStrategy::epoch &&
      args.eval_delay <= context.state.epoch.value_or(0.0))
    control.should_evaluate = true;
  if (args.save_strategy == SaveStrategy::epoch) control.should_save = true;
}

}  // namespace tendril
