// Trainer: the training loop of the Hugging Face Trainer as a class whose every part can be
// overridden, with resume that continues to the bit.
//
//   auto model = nn::models::Gpt2({.vocab_size = 256, .n_positions = 64});
//   Trainer trainer(model, args, {.train_dataset = train, .eval_dataset = eval});
//   trainer.add_callback<EarlyStoppingCallback>(3);
//   trainer.train();                       // or trainer.train(Resume::latest())
//
// Order of one optimizer step: gradient_accumulation_steps times {compute_loss, backward}, finite
// check, clipping, on_pre_optimizer_step, the optimizer, on_optimizer_step, the schedule,
// zero_grad, on_step_end, then what was asked for: log, evaluate, save.
//
// A checkpoint holds everything that moves: weights, optimizer, schedule, loss scaler, random
// numbers, position in the data, the log window, callbacks. A run that is killed and resumed gives
// the same losses, weights and evaluations as one that was not.
//
// Several processes run the same program (docs/distributed.md): what this class does with the
// model, all of them must do, and callbacks must ask for the same in each.
//
// Where this departs from the Hugging Face Trainer, on purpose: see docs/trainer.md.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <tendril/core/random.h>
#include <tendril/dist/process_group.h>
#include <tendril/optim/lr_scheduler.h>
#include <tendril/optim/optimizer.h>
#include <tendril/trainer/callback.h>
#include <tendril/trainer/data/data_loader.h>
#include <tendril/trainer/evaluation.h>
#include <tendril/trainer/resume.h>
#include <tendril/trainer/step_plan.h>
#include <tendril/trainer/trainable_model.h>
#include <tendril/trainer/training_arguments.h>

namespace tendril {

class Distribution;
class MemoryMetrics;
struct RotationRules;

/// Makes a fresh model at each train().
using ModelInit = std::function<TrainableModel()>;
/// A loss from a model's outputs and the batch they came from.
using ComputeLossFunc = std::function<Tensor(const ModelOutput& outputs, const Batch& inputs,
                                             std::optional<int64_t> num_items_in_batch)>;

/// What a Trainer works with besides model and arguments; all of it is optional.
struct TrainerOptions {
  std::shared_ptr<const Dataset> train_dataset = nullptr;
  EvalDatasets eval_dataset = {};
  DataCollator data_collator = {};  // default: default_data_collator
  ComputeLossFunc compute_loss_func = {};
  ComputeMetrics compute_metrics = {};
  ComputeBatchMetrics compute_batch_metrics = {};  // with batch_eval_metrics
  PreprocessLogits preprocess_logits_for_metrics = {};
  std::vector<std::shared_ptr<TrainerCallback>> callbacks = {};
  /// Instead of those that the arguments describe. Not together with model_init.
  std::shared_ptr<optim::Optimizer> optimizer = nullptr;
  std::shared_ptr<optim::LrScheduler> lr_scheduler = nullptr;
  /// The processes that train together, all with the same arguments, data and model. Default: those
  /// that a launcher has started (dist/environment.h), or this one alone.
  std::shared_ptr<dist::ProcessGroup> process_group = nullptr;
};

struct TrainOutput {
  int64_t global_step = 0;
  double training_loss = 0.0;  // mean over all steps of the run
  Metrics metrics;             // train_runtime, train_samples_per_second, ..., epoch
};

class TENDRIL_API Trainer {
 public:
  /// Error for arguments that cannot work (TrainingArguments::validate, and what depends on data).
  /// The model and its tensors are used in place; it moves to a GPU unless use_cpu is set.
  Trainer(TrainableModel model, TrainingArguments args, TrainerOptions options = {});
  Trainer(ModelInit model_init, TrainingArguments args, TrainerOptions options = {});
  virtual ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // ---- what a program calls

  /// Trains. A second call goes on from the current weights and optimizer (with model_init: from
  /// fresh ones).
  TrainOutput train(const Resume& resume = {});
  /// Metrics of the evaluation set (of each, with names), logged, with on_evaluate.
  Metrics evaluate(const EvalDatasets& eval_dataset = {},
                   const std::string& metric_key_prefix = "eval");
  /// Predictions and metrics; not logged, with on_predict.
  PredictionOutput predict(const std::shared_ptr<const Dataset>& test_dataset,
                           const std::string& metric_key_prefix = "test");
  /// Weights, config.json and training_args.json into a folder, output_dir by default. With several
  /// processes all must call it, and the first writes. For the
  /// program to call: checkpoints are written by the Trainer alone, so that they are always whole.
  virtual void save_model(const std::string& output_dir = "");
  /// trainer_state.json into output_dir.
  void save_state();
  /// <split>_results.json in output_dir, and its entries into all_results.json.
  void save_metrics(const std::string& split, const Metrics& metrics, bool combined = true);
  /// A row per metric through the log, at level info.
  void log_metrics(const std::string& split, const Metrics& metrics) const;

  template <class Callback, class... Args>
  Callback& add_callback(Args&&... args) {
    auto callback = std::make_shared<Callback>(std::forward<Args>(args)...);
    add_callback(std::shared_ptr<TrainerCallback>(callback));
    return *callback;
  }
  void add_callback(std::shared_ptr<TrainerCallback> callback);
  /// Null when there is none.
  std::shared_ptr<TrainerCallback> pop_callback(const std::string& name);
  void remove_callback(const std::string& name) { pop_callback(name); }

  const TrainingArguments& args() const { return args_; }
  const TrainerState& state() const { return state_; }
  TrainerControl& control() { return control_; }
  const TrainableModel& model() const { return model_; }
  const std::shared_ptr<optim::Optimizer>& optimizer() const { return optimizer_; }
  const std::shared_ptr<optim::LrScheduler>& lr_scheduler() const { return lr_scheduler_; }
  const std::vector<std::shared_ptr<TrainerCallback>>& callbacks() const {
    return callbacks_.all();
  }
  int64_t get_num_trainable_parameters() const;
  /// The current rate of each group; Error before there is an optimizer.
  std::vector<double> get_learning_rates() const;
  bool is_world_process_zero() const { return state_.is_world_process_zero; }
  bool is_local_process_zero() const { return state_.is_local_process_zero; }

  // ---- what a subclass may override

  /// Called once per train(). The default shuffles with data_seed; Error without train_dataset.
  virtual std::shared_ptr<DataLoader> get_train_dataloader();
  virtual std::shared_ptr<DataLoader> get_eval_dataloader(
      const std::shared_ptr<const Dataset>& eval_dataset);
  virtual std::shared_ptr<DataLoader> get_test_dataloader(
      const std::shared_ptr<const Dataset>& test_dataset);
  /// Null for data that come one after the other.
  virtual std::shared_ptr<const Sampler> get_train_sampler(const Dataset& train_dataset);
  virtual std::shared_ptr<const Sampler> get_eval_sampler(const Dataset& eval_dataset);

  virtual void create_optimizer_and_scheduler(int64_t num_training_steps);
  /// Does nothing when there is one.
  virtual void create_optimizer();
  virtual void create_scheduler(int64_t num_training_steps);
  /// Names of the parameters that weight_decay applies to: all but biases and norms.
  virtual std::vector<std::string> get_decay_parameter_names(nn::Module& model);

  /// Loss and outputs for a batch. `request.num_items_in_batch` is given when the model (or
  /// compute_loss_func) can divide by it; an override that does so sets `used_num_items` in its
  /// result, otherwise the loss counts as the batch's mean.
  struct LossOutput {
    Tensor loss = {};
    ModelOutput outputs = {};
    bool used_num_items = false;
  };
  virtual LossOutput compute_loss(const TrainableModel& model, Batch& inputs,
                                  const LossRequest& request);
  /// Forward and backward of one batch: gradients are added up. Returns the loss off the tape,
  /// scaled such that those of one optimizer step add up to its mean loss.
  virtual Tensor training_step(const TrainableModel& model, Batch& inputs,
                               std::optional<int64_t> num_items_in_batch);
  virtual PredictionStep prediction_step(const TrainableModel& model, Batch& inputs,
                                         bool prediction_loss_only);
  virtual EvalLoopOutput evaluation_loop(DataLoader& dataloader, const std::string& description,
                                         bool prediction_loss_only,
                                         const std::string& metric_key_prefix);
  /// Adds epoch, appends to log_history with the step, fires on_log.
  virtual void log(Json logs);
  /// Estimated operations of forward and backward: 6 * elements of the main input * parameters that
  /// are no embedding.
  virtual double floating_point_ops(const Batch& inputs) const;

 protected:
  CallbackContext context();
  void fire(CallbackHandler::Event event);
  /// What an optimizer gets: the model's parameters that train or, in a sharded run, this process's
  /// parts of them under the same names.
  std::vector<NamedTensor> trained_parameters() const;
  /// What an override of create_optimizer() or create_scheduler() has made.
  void set_optimizer(std::shared_ptr<optim::Optimizer> optimizer);
  void set_lr_scheduler(std::shared_ptr<optim::LrScheduler> lr_scheduler);

 private:
  struct Loop;  // the moving parts of a running train(); training_loop.h

  void initialize();
  void check_options() const;
  void add_default_callbacks();
  void prepare_model();
  void check_processes() const;
  void set_process_log_level() const;
  Generator generator_of_process() const;
  void forget_run();
  Batch to_device(Batch batch) const;
  DataCollator collator() const;
  DataLoaderOptions loader_options(int64_t batch_size) const;

  TrainOutput train_from(const std::optional<std::filesystem::path>& checkpoint);
  TrainOutput train_with_smaller_batches(const std::optional<std::filesystem::path>& checkpoint);
  std::optional<std::filesystem::path> checkpoint_to_resume(const Resume& resume) const;
  std::string find_checkpoint(const Resume& resume) const;
  std::string find_best_model() const;

  void run_epochs(Loop& loop);
  void run_epoch(Loop& loop);
  bool run_update(Loop& loop, BatchStream& stream);
  Tensor run_batch(Loop& loop, Batch& batch, std::optional<int64_t> items);
  void run_optimizer_step(Loop& loop);
  std::optional<int64_t> count_items(const std::vector<Batch>& batches) const;
  void agree_on_step(Loop& loop);
  void note_batch(Loop& loop, const Batch& batch);
  std::optional<DType> autocast_dtype() const;
  void require_loss(const LossOutput& output, const Batch& inputs) const;
  bool is_usable(Loop& loop, double loss, std::optional<double> norm);
  void maybe_log_save_evaluate(Loop& loop);
  void log_window(Loop& loop);
  bool determine_best_metric(const Metrics& metrics);
  TrainOutput finish_training(Loop& loop, const MemoryMetrics& memory);
  void announce(const Loop& loop) const;

  Metrics evaluate_one(const std::shared_ptr<const Dataset>& dataset, const std::string& prefix);
  EvalLoopOutput run_evaluation(const std::shared_ptr<DataLoader>& loader,
                                const std::string& description, bool loss_only,
                                const std::string& prefix);

  void save_checkpoint(Loop& loop);
  struct CheckpointContents;
  CheckpointContents checkpoint_contents(const Loop& loop);
  void write_with_shards(const std::filesystem::path& folder, const CheckpointContents& contents,
                         const RotationRules& rules);
  void restore_checkpoint(Loop& loop, const std::filesystem::path& folder);
  void load_weights(const std::filesystem::path& folder);
  void restore_position(Loop& loop, const std::filesystem::path& folder);
  void restore_optimizer(const std::filesystem::path& folder);
  void restore_random_state(const std::filesystem::path& folder);
  int64_t saved_batch_size(const std::filesystem::path& folder) const;
  void restore_progress(Loop& loop, const std::filesystem::path& folder);
  void warn_about_changed_arguments(const TrainerState& saved) const;
  void load_best_model();
  void note_best_checkpoint();
  void rotate_at_end();

  TrainableModel model_;
  ModelInit model_init_;
  TrainingArguments args_;
  TrainerOptions options_;
  std::unique_ptr<Distribution> distribution_;
  std::shared_ptr<optim::Optimizer> optimizer_;
  std::shared_ptr<optim::LrScheduler> lr_scheduler_;
  bool made_scheduler_ = false;
  int64_t train_batch_size_ = 0;  // per device; smaller than asked for after running out of memory
  TrainerState state_;
  TrainerControl control_;
  CallbackHandler callbacks_;
  Generator generator_;  // of dropout and noise
  std::shared_ptr<DataLoader> train_dataloader_, eval_dataloader_;
  mutable std::optional<int64_t> nonembedding_parameters_;
  Loop* loop_ = nullptr;  // while train() runs
};

}  // namespace tendril
