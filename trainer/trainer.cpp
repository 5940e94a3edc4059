#include <tendril/core/cuda.h>
#include <tendril/core/log.h>
#include <tendril/trainer/arguments/type.h>
#include <tendril/trainer/callbacks/default_flow.h>
#include <tendril/trainer/callbacks/printer.h>
#include <tendril/trainer/callbacks/progress.h>
#include <tendril/trainer/callbacks/reporters/make_reporters.h>
#include <tendril/trainer/data/example_lengths.h>
#include <tendril/trainer/decay_parameters.h>
#include <tendril/trainer/distribution.h>
#include <tendril/trainer/optimizer_choice.h>
#include <tendril/trainer/trainer.h>

#include <algorithm>
#include <filesystem>
#include <set>

namespace tendril {

Trainer::Trainer(TrainableModel model, TrainingArguments args, TrainerOptions options)
    : model_(std::move(model)), args_(std::move(args)), options_(std::move(options)) {
  TENDRIL_CHECK(model_.defined(), "[Trainer] needs a model or a model_init; got neither");
  initialize();
}

Trainer::Trainer(ModelInit model_init, TrainingArguments args, TrainerOptions options)
    : model_init_(std::move(model_init)), args_(std::move(args)), options_(std::move(options)) {
  TENDRIL_CHECK(model_init_, "[Trainer] needs a model or a model_init; got neither");
  TENDRIL_CHECK(!options_.optimizer && !options_.lr_scheduler,
                "[Trainer] model_init makes a new model for each train(), which an optimizer given "
                "from outside does not know; override create_optimizer() instead");
  generator_ = Generator(static_cast<uint64_t>(args_.seed));
  const GeneratorGuard guard(generator_);
  model_ = model_init_();
  TENDRIL_CHECK(model_.defined(), "[Trainer] model_init returned no model");
  initialize();
}

Trainer::~Trainer() = default;

void Trainer::initialize() {
  apply_launch_environment(args_, process_environment());
  args_.validate();
  check_options();
  distribution_ = std::make_unique<Distribution>(args_, options_.process_group);
  check_processes();
  set_process_log_level();
  forget_run();
  if (!model_init_) generator_ = generator_of_process();
  prepare_model();
  if (args_.tf32) cuda::allow_tf32(*args_.tf32);
  if (!options_.data_collator) options_.data_collator = default_data_collator;
  optimizer_ = options_.optimizer;
  lr_scheduler_ = options_.lr_scheduler;
  train_batch_size_ = args_.per_device_train_batch_size;
  add_default_callbacks();
  const std::string folder = args_.expanded_output_dir();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  TENDRIL_CHECK(!error, "[Trainer] cannot make output_dir ", folder, ": ", error.message());
  fire(&TrainerCallback::on_init_end);
}

void Trainer::check_options() const {
  TENDRIL_CHECK(!options_.eval_dataset.empty() || args_.eval_strategy == IntervalStrategy::no,
                "[Trainer] eval_strategy asks for evaluations, but there is no eval_dataset; give "
                "one or set eval_strategy to no");
  TENDRIL_CHECK(
      args_.save_strategy != SaveStrategy::best || args_.metric_for_best_model,
      "[Trainer] save_strategy best needs metric_for_best_model to say which model is best");
  TENDRIL_CHECK(
      !args_.batch_eval_metrics || options_.compute_batch_metrics || !options_.compute_metrics,
      "[Trainer] batch_eval_metrics calls compute_batch_metrics(batch, compute_result); "
      "got compute_metrics, which knows no batches");
  const Dataset* train = options_.train_dataset.get();
  if (!train) return;
  TENDRIL_CHECK(train->size() || args_.max_steps > 0,
                "[Trainer] train_dataset does not know its size, so max_steps must say when to "
                "stop; got max_steps ",
                args_.max_steps);
  const bool grouped =
      args_.group_by_length || args_.train_sampling_strategy == SamplingStrategy::group_by_length;
  TENDRIL_CHECK(!grouped || !dynamic_cast<const IterableDataset*>(train),
                "[Trainer] group_by_length needs a dataset whose examples can be asked for by "
                "number; this one is iterable");
}

void Trainer::add_default_callbacks() {
  callbacks_.add(std::make_shared<DefaultFlowCallback>());
  for (auto& reporter : make_reporters(args_, args_.expanded_output_dir()))
    callbacks_.add(std::move(reporter));
  for (const auto& callback : options_.callbacks) callbacks_.add(callback);
  if (args_.effective_disable_tqdm())
    callbacks_.add(std::make_shared<PrinterCallback>());
  else
    callbacks_.add(std::make_shared<ProgressCallback>());
}

// On its device, and spread over the processes.
void Trainer::prepare_model() {
  if (!args_.use_cpu && cuda::is_built() && cuda::device_count() > 0)
    model_.module().to(Device::cuda(distribution_->local_rank() % cuda::device_count()));
  distribution_->spread(model_.module());
}

// Of what a single process can do.
void Trainer::check_processes() const {
  if (distribution_->size() == 1) return;
  TENDRIL_CHECK(!args_.auto_find_batch_size,
                "[Trainer] auto_find_batch_size works with one process: others would not know of a "
                "smaller batch; set per_device_train_batch_size");
  TENDRIL_CHECK(
      !options_.optimizer,
      "[Trainer] an optimizer given from outside does not know how the parameters are "
      "spread over processes; override create_optimizer() and make it from trained_parameters()");
}

// Levels are the process's own, not one of a thread that plays a process.
void Trainer::set_process_log_level() const {
  if (options_.process_group) return;
  const bool reports =
      args_.log_on_each_node ? distribution_->is_first_of_machine() : distribution_->is_first();
  const std::string& level = reports ? args_.log_level : args_.log_level_replica;
  if (level != "passive") set_log_level(log_level_from(level));
}

Generator Trainer::generator_of_process() const {
  return Generator(distribution_->seed_here(static_cast<uint64_t>(args_.seed)));
}

void Trainer::forget_run() {
  state_ = TrainerState{};
  state_.is_world_process_zero = distribution_->is_first();
  state_.is_local_process_zero = distribution_->is_first_of_machine();
}

std::vector<NamedTensor> Trainer::trained_parameters() const {
  return distribution_->trained_parameters(model_.module());
}

void Trainer::add_callback(std::shared_ptr<TrainerCallback> callback) {
  TENDRIL_CHECK(callback, "[add_callback] the callback must not be null");
  callbacks_.add(std::move(callback));
}

std::shared_ptr<TrainerCallback> Trainer::pop_callback(const std::string& name) {
  return callbacks_.pop(name);
}

CallbackContext Trainer::context() {
  CallbackContext context{args_, state_, control_};
  context.model = &model_.module();
  context.optimizer = optimizer_.get();
  context.lr_scheduler = lr_scheduler_.get();
  context.train_dataloader = train_dataloader_.get();
  context.eval_dataloader = eval_dataloader_.get();
  return context;
}

void Trainer::fire(CallbackHandler::Event event) {
  CallbackContext c = context();
  callbacks_.call(event, c);
}

int64_t Trainer::get_num_trainable_parameters() const {
  return model_.module().parameter_count(/*trainable_only=*/true);
}

std::vector<double> Trainer::get_learning_rates() const {
  TENDRIL_CHECK(optimizer_,
                "[get_learning_rates] there is no optimizer yet; call "
                "create_optimizer() or train() first");
  std::vector<double> rates;
  for (size_t group = 0; group < optimizer_->group_count(); ++group)
    rates.push_back(optimizer_->lr(group));
  return rates;
}

// ---- data

std::shared_ptr<const Sampler> Trainer::get_train_sampler(const Dataset& dataset) {
  const std::optional<int64_t> size = dataset.size();
  if (!size || dynamic_cast<const IterableDataset*>(&dataset)) return nullptr;
  const auto seed = static_cast<uint64_t>(args_.data_seed.value_or(args_.seed));
  if (args_.group_by_length || args_.train_sampling_strategy == SamplingStrategy::group_by_length)
    return std::make_shared<LengthGroupedSampler>(
        example_lengths(dataset, args_.length_column_name),
        train_batch_size_ * args_.gradient_accumulation_steps * distribution_->size(), seed);
  if (args_.train_sampling_strategy == SamplingStrategy::sequential)
    return std::make_shared<SequentialSampler>(*size);
  return std::make_shared<RandomSampler>(*size, seed);
}

std::shared_ptr<const Sampler> Trainer::get_eval_sampler(const Dataset&) { return nullptr; }

// The collator sees what the model reads, and labels.
DataCollator Trainer::collator() const {
  if (!args_.remove_unused_columns || !model_.input_names()) return options_.data_collator;
  std::set<std::string> kept(model_.input_names()->begin(), model_.input_names()->end());
  kept.insert({kLabels, kShiftLabels, "label", "label_ids"});
  if (args_.label_names) kept.insert(args_.label_names->begin(), args_.label_names->end());
  return [kept, collate = options_.data_collator](const std::vector<Example>& examples) {
    std::vector<Example> pruned = examples;
    for (Example& example : pruned)
      std::erase_if(example, [&](const auto& entry) { return !kept.contains(entry.first); });
    return collate(pruned);
  };
}

DataLoaderOptions Trainer::loader_options(int64_t batch_size) const {
  return {.batch_size = batch_size,
          .collator = collator(),
          .drop_last = args_.dataloader_drop_last,
          .num_workers = args_.dataloader_num_workers,
          .prefetch_factor = args_.dataloader_prefetch_factor.value_or(2),
          .persistent_workers = args_.dataloader_persistent_workers,
          .pin_memory = args_.dataloader_pin_memory,
          .rank = distribution_->rank(),
          .world_size = distribution_->size(),
          .seed = static_cast<uint64_t>(args_.data_seed.value_or(args_.seed))};
}

std::shared_ptr<DataLoader> Trainer::get_train_dataloader() {
  TENDRIL_CHECK(options_.train_dataset, "[train] needs a train_dataset; give one to the Trainer");
  DataLoaderOptions options = loader_options(train_batch_size_);
  options.sampler = get_train_sampler(*options_.train_dataset);
  return std::make_shared<DataLoader>(options_.train_dataset, std::move(options));
}

std::shared_ptr<DataLoader> Trainer::get_eval_dataloader(
    const std::shared_ptr<const Dataset>& dataset) {
  TENDRIL_CHECK(dataset, "[evaluate] needs an eval_dataset; give one to evaluate() or the Trainer");
  DataLoaderOptions options = loader_options(args_.per_device_eval_batch_size);
  options.sampler = get_eval_sampler(*dataset);
  return std::make_shared<DataLoader>(dataset, std::move(options));
}

std::shared_ptr<DataLoader> Trainer::get_test_dataloader(
    const std::shared_ptr<const Dataset>& dataset) {
  TENDRIL_CHECK(dataset, "[predict] needs a dataset; got null");
  return get_eval_dataloader(dataset);
}

Batch Trainer::to_device(Batch batch) const {
  const std::vector<Tensor> parameters = model_.module().parameters();
  if (parameters.empty() || parameters.front().device().is_cpu()) return batch;
  for (auto& [name, tensor] : batch) tensor = to(tensor, parameters.front().device());
  return batch;
}

// ---- optimizer and schedule

void Trainer::create_optimizer_and_scheduler(int64_t num_training_steps) {
  create_optimizer();
  create_scheduler(num_training_steps);
}

std::vector<std::string> Trainer::get_decay_parameter_names(nn::Module& model) {
  return decay_parameter_names(model);
}

void Trainer::create_optimizer() {
  if (optimizer_) return;
  nn::Module& model = model_.module();
  ParameterGroups groups = parameter_groups(model, get_decay_parameter_names(model), args_);
  TENDRIL_CHECK(!groups.decayed.empty() || !groups.kept.empty(),
                "[create_optimizer] the model has no parameter that requires grad; unfreeze some "
                "with requires_grad_(true)");
  set_optimizer(make_optimizer(args_, distribution_->parts_of(std::move(groups))));
}

void Trainer::create_scheduler(int64_t num_training_steps) {
  if (lr_scheduler_) return;
  set_lr_scheduler(optim::make_lr_scheduler(
      argument_type<SchedulerType>().to_json(&args_.lr_scheduler_type).as_string(),
      {.num_warmup_steps = args_.get_warmup_steps(num_training_steps),
       .num_training_steps = num_training_steps,
       .base_lr = args_.learning_rate,
       .kwargs = args_.lr_scheduler_kwargs}));
}

void Trainer::set_optimizer(std::shared_ptr<optim::Optimizer> optimizer) {
  optimizer_ = std::move(optimizer);
}

void Trainer::set_lr_scheduler(std::shared_ptr<optim::LrScheduler> lr_scheduler) {
  lr_scheduler_ = std::move(lr_scheduler);
  made_scheduler_ = true;  // here, so that the next train() makes another
}

}  // namespace tendril
