// Going on from a checkpoint.
#include <tendril/core/log.h>
#include <tendril/core/safetensors.h>
#include <tendril/trainer/checkpoint/checkpoint_folder.h>
#include <tendril/trainer/checkpoint_files.h>
#include <tendril/trainer/distribution.h>
#include <tendril/trainer/sharded_state.h>
#include <tendril/trainer/training_loop.h>

#include <limits>

namespace fs = std::filesystem;

namespace tendril {
namespace {

double number_or_nan(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.as_double();
}

}  // namespace

void Trainer::Loop::from_json(const Json& object, const std::string& origin) {
  try {
    epoch = object.at("epoch").as_int();
    batch = object.at("batch").as_int();
    owes_epoch_stop = object.at("should_epoch_stop").as_bool();
    owes_training_stop = object.at("should_training_stop").as_bool();
    window.sum = number_or_nan(object.at("window_sum"));
    window.logged = number_or_nan(object.at("window_logged"));
    window.last_logged_step = object.at("last_logged_step").as_int();
    if (object.at("has_grad_norm").as_bool()) grad_norm = number_or_nan(object.at("grad_norm"));
    learning_rate = object.at("learning_rate").as_double();
  } catch (const Error& error) {
    fail("[train] ", origin, ": ", error.what());
  }
  TENDRIL_CHECK(epoch >= 0 && batch >= 0, "[train] ", origin,
                ": a position must not be negative; got epoch ", epoch, ", batch ", batch);
}

// The same one in every process.
std::optional<fs::path> Trainer::checkpoint_to_resume(const Resume& resume) const {
  const std::string folder = distribution_->run_on_first([&] { return find_checkpoint(resume); });
  if (folder.empty()) return {};
  return folder;
}

// Empty: from the beginning.
std::string Trainer::find_checkpoint(const Resume& resume) const {
  if (resume.from == Resume::From::beginning) return {};
  if (resume.from == Resume::From::path) {
    TENDRIL_CHECK(fs::is_directory(resume.path), "[train] can't find a valid checkpoint at ",
                  resume.path);
    check_checkpoint(resume.path);
    return resume.path;
  }
  const std::string output_dir = args_.expanded_output_dir();
  int64_t refused = 0;
  const auto found = find_valid_checkpoint(
      output_dir, [&](const fs::path& folder, const std::vector<std::string>& faults) {
        ++refused;
        std::string list;
        for (const std::string& fault : faults) list += (list.empty() ? "" : "; ") + fault;
        log_warning("[train] ", folder.string(), " is damaged and not used: ", list);
      });
  const bool may_begin = resume.from == Resume::From::latest_if_any && refused == 0;
  TENDRIL_CHECK(found || may_begin, "[train] no valid checkpoint found in output directory (",
                output_dir, "); ", refused, " damaged ones were refused");
  return found ? found->string() : std::string();
}

void Trainer::load_weights(const fs::path& folder) {
  const bool in_shards = fs::is_directory(folder / kModelShards);
  const fs::path path = folder / (in_shards ? kModelShards : kModel);
  try {
    dist::FullySharded* const sharded = distribution_->sharded();
    if (sharded && in_shards)
      load_model_pieces(*sharded, model_.module(), path);
    else if (sharded)  // the file is mapped: each process reads its rows
      sharded->load_full_state_dict(load_safetensors(path.string()));
    else
      model_.module().load_state_dict(in_shards ? read_whole(path)
                                                : load_safetensors(path.string()));
  } catch (const Error& error) {
    fail("[train] the weights of ", path.string(), " do not fit this model: ", error.what());
  }
}

// What auto_find_batch_size had arrived at.
int64_t Trainer::saved_batch_size(const fs::path& folder) const {
  const std::string path = (folder / kState).string();
  return TrainerState::from_json(read_json(path), path)
      .train_batch_size.value_or(args_.per_device_train_batch_size);
}

void Trainer::restore_checkpoint(Loop& loop, const fs::path& folder) {
  const std::string state_path = (folder / kState).string();
  TrainerState saved = TrainerState::from_json(read_json(state_path), state_path);
  warn_about_changed_arguments(saved);
  // What was counted comes from the checkpoint; what the arguments say, from the arguments.
  const bool had_ended = saved.global_step >= saved.max_steps;
  saved.max_steps = state_.max_steps;
  saved.num_train_epochs = state_.num_train_epochs;
  saved.logging_steps = state_.logging_steps;
  saved.eval_steps = state_.eval_steps;
  saved.save_steps = state_.save_steps;
  saved.train_batch_size = state_.train_batch_size;
  saved.is_world_process_zero = state_.is_world_process_zero;
  saved.is_local_process_zero = state_.is_local_process_zero;
  state_ = std::move(saved);
  if (args_.restore_callback_states_from_checkpoint) {
    callbacks_.load_states(state_.stateful_callbacks, control_);
    if (fs::exists(folder / kCallbacks))
      callbacks_.load_tensors(load_safetensors((folder / kCallbacks).string()));
  }

  const int64_t accumulation = args_.gradient_accumulation_steps;
  loop.epoch = state_.global_step / loop.plan.updates_per_epoch;
  loop.batch = state_.global_step % loop.plan.updates_per_epoch * accumulation;
  loop.scheduler_step = loop.window.last_logged_step = state_.global_step;
  if (!fs::exists(folder / kProgress)) {
    log_warning("[train] ", folder.string(),
                " holds the model alone (save_only_model): the "
                "optimizer, the schedule and random numbers begin anew");
    return;
  }
  restore_progress(loop, folder);
  // Its last step stopped that run; who resumes it with more steps wants them.
  if (had_ended) loop.owes_training_stop = false;
  if (args_.ignore_data_skip) loop.batch = 0;
}

void Trainer::restore_progress(Loop& loop, const fs::path& folder) {
  restore_position(loop, folder);
  restore_optimizer(folder);
  const Json schedule = read_json(folder / kScheduler);
  loop.scheduler_step = schedule.at("step").as_int();
  lr_scheduler_->load_state(schedule.at("state"));
  if (loop.scaler && fs::exists(folder / kScaler))
    loop.scaler->load_state(read_json(folder / kScaler));
  restore_random_state(folder);
}

// Where the data go on. Other numbers of processes and batch sizes with the same number of examples
// per step continue with the same examples.
void Trainer::restore_position(Loop& loop, const fs::path& folder) {
  const Json progress = read_json(folder / kProgress);
  const int64_t derived_epoch = loop.epoch, derived_batch = loop.batch;
  loop.from_json(progress, (folder / kProgress).string());
  const auto saved = [&](const char* name) { return progress.at(name).as_int(); };
  const DataLoaderOptions& now = loop.loader->options();
  const int64_t saved_world = progress.find("world_size") ? saved("world_size") : 1;
  const int64_t saved_round = saved("batch_size") * saved_world;  // examples of a batch everywhere
  const int64_t round = now.batch_size * now.world_size;
  TENDRIL_CHECK(saved_round > 0 && saved("gradient_accumulation_steps") > 0, "[train] ",
                (folder / kProgress).string(),
                ": batch_size, world_size and gradient_accumulation_steps must be positive; got ",
                saved("batch_size"), ", ", saved_world, ", ", saved("gradient_accumulation_steps"));
  if (saved_round == round && saved_world == now.world_size &&
      saved("gradient_accumulation_steps") == args_.gradient_accumulation_steps &&
      saved("batches_per_epoch") == loop.plan.batches_per_epoch.value_or(-1))
    return;
  const bool same_steps = saved_round * saved("gradient_accumulation_steps") ==
                          round * args_.gradient_accumulation_steps;
  const std::optional<int64_t> examples = loop.loader->num_examples();
  const int64_t rounds = !examples       ? -1
                         : now.drop_last ? *examples / saved_round
                                         : (*examples + saved_round - 1) / saved_round;
  if (same_steps && loop.batch * saved_round % round == 0 && rounds == saved("batches_per_epoch")) {
    loop.batch = loop.batch * saved_round / round;
    log_info("[train] the checkpoint is of ", saved_world, " processes with batches of ",
             saved("batch_size"), "; the data go on where they were");
    return;
  }
  log_warning(
      "[train] batch size, accumulation, processes or data differ from the checkpoint's: the "
      "position in the data is worked out from the step, and the run will not be the "
      "same as without interruption");
  loop.epoch = derived_epoch;
  loop.batch = derived_batch;
}

void Trainer::restore_optimizer(const fs::path& folder) {
  const bool in_shards = fs::is_directory(folder / kOptimizerShards);
  const fs::path path = folder / (in_shards ? kOptimizerShards : kOptimizer);
  if (const dist::FullySharded* sharded = distribution_->sharded())
    optimizer_->load_state_dict(read_optimizer_pieces(sharded->shards(), path));
  else
    optimizer_->load_state_dict(in_shards ? read_whole(path) : load_safetensors(path.string()));
}

void Trainer::restore_random_state(const fs::path& folder) {
  const Json random = read_json(folder / kRandom);
  const auto rank = static_cast<size_t>(distribution_->rank());
  Json position = random.at("position");
  if (const Json* positions = random.find("positions");
      positions && rank < positions->items().size())
    position = positions->items()[rank];
  generator_.set_state({distribution_->seed_here(static_cast<uint64_t>(random.at("seed").as_int())),
                        static_cast<uint64_t>(position.as_int())});
}

void Trainer::warn_about_changed_arguments(const TrainerState& saved) const {
  std::string changes;
  const auto compare = [&](const char* name, double now, double before) {
    if (now != before)
      changes += detail::concat(changes.empty() ? "" : ", ", name, ": ", now,
                                " (from args) != ", before, " (from trainer_state.json)");
  };
  compare("logging_steps", state_.logging_steps, saved.logging_steps);
  compare("eval_steps", state_.eval_steps, saved.eval_steps);
  compare("save_steps", state_.save_steps, saved.save_steps);
  compare("per_device_train_batch_size", static_cast<double>(train_batch_size_),
          static_cast<double>(saved.train_batch_size.value_or(train_batch_size_)));
  if (!changes.empty() && distribution_->is_first())
    log_warning("[train] arguments differ from the checkpoint's, and those given now count: ",
                changes);
}

void Trainer::load_best_model() {
  const std::string folder = distribution_->run_on_first([&] { return find_best_model(); });
  if (folder.empty()) return;
  log_info("Loading best model from ", folder, " (score: ", state_.best_metric.value_or(0), ")");
  load_weights(folder);
}

// Empty when there is none, which a warning has said then.
std::string Trainer::find_best_model() const {
  const auto& path = state_.best_model_checkpoint;
  if (!path) {
    log_warning("[train] load_best_model_at_end: no evaluation has chosen a model");
    return {};
  }
  fs::path folder = *path;
  if (!fs::is_directory(folder))  // the output folder may have been moved since
    folder = fs::path(args_.expanded_output_dir()) / folder.filename();
  if (!fs::is_directory(folder)) {
    log_warning("[train] load_best_model_at_end: ", *path, " is not there any more");
    return {};
  }
  check_checkpoint(folder);
  return folder.string();
}

}  // namespace tendril
