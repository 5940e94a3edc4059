// Trainer::train(): passes, optimizer steps, and what happens between them.
#include <tendril/core/allocator.h>
#include <tendril/core/log.h>
#include <tendril/trainer/distribution.h>
#include <tendril/trainer/embedding_noise.h>
#include <tendril/trainer/memory_metrics.h>
#include <tendril/trainer/optimizer_choice.h>
#include <tendril/trainer/training_loop.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace tendril {
namespace {

// Makes `loop` the one that runs while in scope.
template <class T>
struct Current {
  T*& slot;
  Current(T*& slot, T& value) : slot(slot) { slot = &value; }
  ~Current() { slot = nullptr; }
};

}  // namespace

TrainOutput Trainer::train(const Resume& resume) {
  if (model_init_) {  // every train() starts afresh, and with the seed that args hold
    generator_ = Generator(static_cast<uint64_t>(args_.seed));  // the same weights everywhere
    const GeneratorGuard guard(generator_);
    model_ = model_init_();
    generator_.set_state(
        {distribution_->seed_here(static_cast<uint64_t>(args_.seed)), generator_.state().position});
    prepare_model();
    optimizer_ = nullptr;
    lr_scheduler_ = nullptr;
  }
  const GeneratorGuard guard(generator_);
  const EmbeddingNoise noise(model_.module(), args_.neftune_noise_alpha);
  const std::optional<std::filesystem::path> checkpoint = checkpoint_to_resume(resume);
  if (checkpoint) {
    load_weights(*checkpoint);
    if (args_.auto_find_batch_size) train_batch_size_ = saved_batch_size(*checkpoint);
  }
  return args_.auto_find_batch_size ? train_with_smaller_batches(checkpoint)
                                    : train_from(checkpoint);
}

// A failed attempt leaves no trace: weights, random numbers and optimizer are those of before.
TrainOutput Trainer::train_with_smaller_batches(
    const std::optional<std::filesystem::path>& checkpoint) {
  StateDict weights, optimizer_state;
  for (const auto& [name, tensor] : model_.module().state_dict()) weights[name] = clone(tensor);
  if (optimizer_)
    for (const auto& [name, tensor] : optimizer_->state_dict())
      optimizer_state[name] = clone(tensor);
  const std::shared_ptr<optim::Optimizer> optimizer = optimizer_;
  const Generator::State random = generator_.state();
  while (true) {
    try {
      return train_from(checkpoint);
    } catch (const OutOfMemory& error) {
      const int64_t smaller = train_batch_size_ * 9 / 10;
      TENDRIL_CHECK(smaller > 0, "[train] not even a batch of one example fits: ", error.what());
      log_warning("[train] a batch of ", train_batch_size_, " does not fit; trying ", smaller,
                  " (auto_find_batch_size)");
      train_batch_size_ = smaller;
    }
    model_.module().zero_grad();
    empty_cache(model_.module().parameters().front().device());
    model_.module().load_state_dict(weights);
    optimizer_ = optimizer;
    if (optimizer_) optimizer_->load_state_dict(optimizer_state);
    generator_.set_state(random);
  }
}

TrainOutput Trainer::train_from(const std::optional<std::filesystem::path>& checkpoint) {
  const MemoryMetrics memory("train", args_, model_.module());
  Loop loop;
  const Current<Loop> current(loop_, loop);
  train_dataloader_ = loop.loader = get_train_dataloader();
  const int64_t total_batch_size =
      train_batch_size_ * args_.gradient_accumulation_steps * distribution_->size();
  loop.plan =
      StepPlan::make(args_, loop.loader->size(), loop.loader->num_examples(), total_batch_size);
  if (made_scheduler_) lr_scheduler_ = nullptr;  // it was for the steps of an earlier train()
  model_.module().set_gradient_checkpointing(args_.gradient_checkpointing ||
                                             distribution_->plan().activation_checkpointing);
  create_optimizer_and_scheduler(loop.plan.max_steps);
  check_backward_updates(args_, *optimizer_);
  distribution_->check_optimizer(*optimizer_);
  loop.parameters = optimizer_->parameters();
  if (args_.fp16) loop.scaler.emplace();

  forget_run();
  state_.max_steps = loop.plan.max_steps;
  state_.num_train_epochs = loop.plan.num_train_epochs;
  state_.train_batch_size = train_batch_size_;
  state_.logging_steps = resolve_steps(args_.logging_steps, state_.max_steps);
  state_.save_steps = resolve_steps(args_.save_steps, state_.max_steps);
  if (const auto steps = args_.effective_eval_steps())
    state_.eval_steps = resolve_steps(*steps, state_.max_steps);
  state_.epoch = 0.0;
  if (checkpoint) restore_checkpoint(loop, *checkpoint);
  loop.first_step = state_.global_step;
  loop.first_tokens = state_.num_input_tokens_seen;
  optimizer_->train();
  optimizer_->scale_lr(lr_scheduler_->factor(loop.scheduler_step));
  optimizer_->zero_grad();
  model_.module().zero_grad();
  if (args_.enable_jit_checkpoint) loop.stop_signal.emplace();
  announce(loop);

  fire(&TrainerCallback::on_train_begin);
  // The callbacks that asked to stop go on where they were, and so does their request.
  if (loop.owes_training_stop && args_.restore_callback_states_from_checkpoint)
    control_.should_training_stop = true;
  if (args_.eval_on_start && !checkpoint) evaluate();
  run_epochs(loop);
  return finish_training(loop, memory);
}

void Trainer::announce(const Loop& loop) const {
  log_info("***** Running training *****");
  if (const auto examples = loop.loader->num_examples()) log_info("  Num examples = ", *examples);
  if (loop.plan.batches_per_epoch) log_info("  Num Epochs = ", loop.plan.num_train_epochs);
  log_info("  Instantaneous batch size per device = ", train_batch_size_);
  log_info("  Total train batch size (w. accumulation) = ",
           train_batch_size_ * args_.gradient_accumulation_steps * distribution_->size());
  log_info("  Gradient Accumulation steps = ", args_.gradient_accumulation_steps);
  log_info("  Total optimization steps = ", loop.plan.max_steps);
  log_info("  Number of trainable parameters = ", get_num_trainable_parameters());
  if (loop.first_step > 0)
    log_info("  Continuing at step ", loop.first_step, ", pass ", loop.epoch, ", batch ",
             loop.batch);
}

void Trainer::run_epochs(Loop& loop) {
  // A run that resumes after its last step still owes the end of the pass.
  while (loop.epoch < loop.plan.num_train_epochs && !control_.should_training_stop &&
         (state_.global_step < state_.max_steps || loop.batch > 0)) {
    run_epoch(loop);
    ++loop.epoch;
    loop.batch = 0;
    loop.epoch_done = false;
  }
}

void Trainer::run_epoch(Loop& loop) {
  fire(&TrainerCallback::on_epoch_begin);
  control_.should_epoch_stop |= std::exchange(loop.owes_epoch_stop, false);
  const std::unique_ptr<BatchStream> stream = loop.loader->iterate(loop.epoch, loop.batch);
  loop.exhausted = loop.interrupted = false;
  while (!control_.should_epoch_stop && state_.global_step < state_.max_steps &&
         run_update(loop, *stream)) {
  }
  if (loop.interrupted) return;  // by a signal: the checkpoint is written, and time is short
  if (loop.batch == 0 && loop.exhausted) {
    log_warning("[train] pass ", loop.epoch,
                " over the training data gave no batch; training stops at step ",
                state_.global_step, " of ", state_.max_steps);
    control_.should_training_stop = true;
  }
  // A pass that was stopped in its middle is not done: resuming goes on in it.
  loop.epoch_done =
      loop.exhausted || control_.should_epoch_stop || loop.batch == loop.plan.batches_per_epoch;
  fire(&TrainerCallback::on_epoch_end);
  maybe_log_save_evaluate(loop);
}

// One optimizer step: false when the pass is over or somebody asked to stop.
bool Trainer::run_update(Loop& loop, BatchStream& stream) {
  // All of the step's, because its loss is a mean over all their labels.
  std::vector<Batch> batches;
  while (std::ssize(batches) < args_.gradient_accumulation_steps) {
    std::optional<Batch> batch = stream.next();
    loop.exhausted = !batch;
    if (!batch) break;
    batches.push_back(std::move(*batch));
  }
  if (batches.empty()) return false;
  const std::optional<int64_t> items = count_items(batches);
  loop.accumulated = std::ssize(batches);
  loop.step_loss = {};
  distribution_->note_step(state_.global_step + 1);
  fire(&TrainerCallback::on_step_begin);
  for (size_t i = 0; i < batches.size(); ++i) {
    note_batch(loop, batches[i]);
    const auto local = distribution_->pause_exchange(/*is_last_batch=*/i + 1 == batches.size());
    const Tensor loss = to(run_batch(loop, batches[i], items), f64);
    loop.step_loss = loop.step_loss.defined() ? loop.step_loss + loss : loss;
    batches[i].clear();
    ++loop.batch;
    if (i + 1 == batches.size()) {
      run_optimizer_step(loop);
    } else {
      fire(&TrainerCallback::on_substep_end);
      if (control_.should_epoch_stop || control_.should_training_stop) {
        optimizer_->zero_grad();  // half a step is none
        model_.module().zero_grad();
        loop.batch -= static_cast<int64_t>(i) + 1;
        break;
      }
    }
  }
  return !control_.should_epoch_stop && !control_.should_training_stop;
}

std::optional<int64_t> Trainer::count_items(const std::vector<Batch>& batches) const {
  int64_t sum = 0, missing = 0;
  for (const Batch& batch : batches) {
    std::optional<int64_t> items = model_.count_items(batch);
    if (!items && options_.compute_loss_func)
      if (const auto labels = batch.find(kLabels); labels != batch.end())
        items = is_floating(labels->second.dtype()) ? labels->second.numel()
                                                    : count_labels(labels->second);
    sum += items.value_or(0);
    missing += !items;
  }
  // Known only when every process knows.
  if (distribution_->sum(missing) > 0) return {};
  return distribution_->sum(sum);
}

void Trainer::note_batch(Loop& loop, const Batch& batch) {
  loop.samples += batch.empty() ? 0.0 : static_cast<double>(batch.begin()->second.size(0));
  state_.total_flos += floating_point_ops(batch) * distribution_->size();
  if (args_.include_num_input_tokens_seen == "no") return;
  // With several processes those of all are added at the end of the step.
  int64_t& seen = distribution_->size() == 1 ? state_.num_input_tokens_seen : loop.step_tokens;
  const auto mask = batch.find("attention_mask");
  if (args_.include_num_input_tokens_seen == "non_padding" && mask != batch.end())
    seen += sum(to(mask->second, i64)).item<int64_t>();
  else if (const Tensor* input = detail::find_main_input(batch))
    seen += input->numel();
}

void Trainer::maybe_log_save_evaluate(Loop& loop) {
  if (distribution_->size() == 1 ? loop.signalled() : loop.others_stop) {
    log_warning("[train] a signal asked to stop; saving at step ", state_.global_step);
    control_.should_save = control_.should_training_stop = loop.interrupted = true;
  }
  if (control_.should_log && state_.global_step > loop.window.last_logged_step) log_window(loop);
  if (control_.should_evaluate) {
    const bool is_best = determine_best_metric(evaluate());
    // A save that a callback asked for is kept, whether or not the model is the best.
    if (args_.save_strategy == SaveStrategy::best && is_best) control_.should_save = true;
  }
  if (control_.should_save) {
    save_checkpoint(loop);
    fire(&TrainerCallback::on_save);
  }
}

bool Trainer::determine_best_metric(const Metrics& metrics) {
  std::optional<std::string> name = args_.effective_metric_for_best_model();
  if (!name) return false;
  if (!name->starts_with("eval_")) *name = "eval_" + *name;
  const auto found = metrics.find(*name);
  if (found == metrics.end()) {
    std::string names;
    for (const auto& [known, value] : metrics) names += (names.empty() ? "" : ", ") + known;
    fail("[evaluate] metric_for_best_model \"", *name, "\" is not among the metrics: ", names);
  }
  const double value = found->second;
  if (lr_scheduler_->needs_metric()) {
    lr_scheduler_->observe(value);
    optimizer_->scale_lr(lr_scheduler_->factor(loop_ ? loop_->scheduler_step : 0));
  }
  if (!std::isfinite(value)) return false;
  const bool better =
      !state_.best_metric || (args_.effective_greater_is_better() ? value > *state_.best_metric
                                                                  : value < *state_.best_metric);
  if (!better) return false;
  state_.best_metric = value;
  if (args_.save_strategy != SaveStrategy::no) state_.best_global_step = state_.global_step;
  note_best_checkpoint();
  return true;
}

}  // namespace tendril
