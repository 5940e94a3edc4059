// What a Trainer's checkpoint holds, and how a run goes on from one.
//
//   model.safetensors, config.json    weights
//   optimizer.safetensors             what the optimizer has accumulated
//   scheduler.json, scaler.json       the schedule's step and state; the loss scaler (f16)
//   rng_state.json                    the generator of dropout and noise
//   progress.json                     position in the data, and the log window
//   callbacks.safetensors             tensors of callbacks, where they have any
//   trainer_state.json                as the Hugging Face Trainer writes it
//   training_args.json                for the record; a resumed run uses its own arguments
//   manifest.json                     sizes and checksums of all of them
#include <tendril/core/file.h>
#include <tendril/core/log.h>
#include <tendril/core/safetensors.h>
#include <tendril/trainer/checkpoint/checkpoint_folder.h>
#include <tendril/trainer/checkpoint/checkpoint_writer.h>
#include <tendril/trainer/checkpoint/rotation.h>
#include <tendril/trainer/distribution.h>
#include <tendril/trainer/evaluated_weights.h>
#include <tendril/trainer/sharded_state.h>
#include <tendril/trainer/training_loop.h>

#include <limits>

namespace fs = std::filesystem;

namespace tendril {
namespace {

constexpr const char* kModel = "model.safetensors";
constexpr const char* kConfig = "config.json";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kModelShards = "model";  // folders, of sharded runs
constexpr const char* kOptimizerShards = "optimizer";
constexpr const char* kCallbacks = "callbacks.safetensors";
constexpr const char* kScheduler = "scheduler.json";
constexpr const char* kScaler = "scaler.json";
constexpr const char* kRandom = "rng_state.json";
constexpr const char* kProgress = "progress.json";
constexpr const char* kState = "trainer_state.json";
constexpr const char* kArguments = "training_args.json";

Json read_json(const fs::path& path) {
  return Json::parse(read_text_file(path.string()), path.string());
}

// The first process's seed, from which those of the others follow, and the position of each.
Json random_json(uint64_t seed, const std::vector<std::string>& positions) {
  Json object = Json::object(), list = Json::array();
  for (const std::string& position : positions)
    list.push_back(static_cast<int64_t>(std::stoull(position)));
  object.set("seed", static_cast<int64_t>(seed));
  object.set("position", list.items().front());
  object.set("positions", std::move(list));
  return object;
}

StateDict cloned(const StateDict& state) {
  StateDict copy;
  for (const auto& [name, tensor] : state) copy[name] = clone(tensor);
  return copy;
}

double number_or_nan(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.as_double();
}

// Adds all files, gives the folder its name, and makes room.
void write_contents(CheckpointWriter& writer, const auto& contents, const fs::path& output_dir,
                    const RotationRules& rules) {
  for (const auto& [name, tensors] : contents.tensors) writer.tensors(name, tensors);
  for (const auto& [name, text] : contents.texts) writer.text(name, text);
  writer.commit();
  rotate_checkpoints(output_dir, rules);
}

fs::path folder_of_step(const TrainingArguments& args, int64_t step) {
  return fs::path(args.expanded_output_dir()) / ("checkpoint-" + std::to_string(step));
}

}  // namespace

Json Trainer::Loop::to_json(const TrainingArguments& args, const TrainerControl& control) const {
  Json object = Json::object();
  object.set("epoch", epoch_done ? epoch + 1 : epoch);
  object.set("batch", epoch_done ? int64_t{0} : batch);
  object.set("batches_per_epoch", plan.batches_per_epoch.value_or(-1));
  object.set("batch_size", loader->options().batch_size);
  object.set("world_size", loader->options().world_size);
  object.set("gradient_accumulation_steps", args.gradient_accumulation_steps);
  object.set("should_epoch_stop", control.should_epoch_stop && !epoch_done);
  object.set("should_training_stop", control.should_training_stop && !interrupted);
  object.set("window_sum", json_number(window.sum));
  object.set("window_logged", json_number(window.logged));
  object.set("last_logged_step", window.last_logged_step);
  object.set("grad_norm", grad_norm ? json_number(*grad_norm) : Json());
  object.set("has_grad_norm", grad_norm.has_value());
  object.set("learning_rate", learning_rate);
  return object;
}

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

// What goes into the folder besides shards, so that it can be written while training goes on.
struct Trainer::CheckpointContents {
  std::map<std::string, StateDict> tensors;
  std::map<std::string, std::string> texts;
};

void Trainer::save_checkpoint(Loop& loop) {
  const fs::path folder = folder_of_step(args_, state_.global_step);
  loop.writer.wait();  // the one before, whose folder may be the best
  if (state_.best_global_step == state_.global_step)
    state_.best_model_checkpoint = folder.string();
  else
    note_best_checkpoint();
  state_.stateful_callbacks = callbacks_.states(control_);

  const EvaluatedWeights weights(optimizer_.get());
  CheckpointContents contents = checkpoint_contents(loop);
  RotationRules rules{.save_total_limit = args_.save_total_limit, .just_written = folder};
  if (state_.best_model_checkpoint) rules.best = *state_.best_model_checkpoint;
  log_info("Saving checkpoint ", folder.string());
  if (distribution_->sharded()) return write_with_shards(folder, contents, rules);
  const auto write = [folder, rules](const CheckpointContents& whole) {
    CheckpointWriter writer(folder);
    write_contents(writer, whole, folder.parent_path(), rules);
  };
  if (!args_.save_in_background) {
    distribution_->run_on_first([&] { return write(contents), std::string(); });
    return;
  }
  if (!distribution_->is_first()) return;
  for (auto& [name, tensors] : contents.tensors) tensors = cloned(tensors);
  loop.writer.submit([write, contents = std::move(contents)] { write(contents); });
}

// Collective; the first process writes them.
Trainer::CheckpointContents Trainer::checkpoint_contents(const Loop& loop) {
  CheckpointContents contents;
  dist::FullySharded* const sharded = distribution_->sharded();
  if (!sharded)
    contents.tensors[kModel] = model_.module().state_dict();
  else if (distribution_->plan().state_dict_type == StateDictType::full)
    contents.tensors[kModel] = sharded->full_state_dict();
  if (const auto config = model_.config_json()) contents.texts[kConfig] = *config;
  contents.texts[kState] = state_.to_json_string();
  contents.texts[kArguments] = args_.to_json_string();
  if (args_.save_only_model) return contents;
  if (!sharded) contents.tensors[kOptimizer] = optimizer_->state_dict();
  if (StateDict tensors = callbacks_.tensors(); !tensors.empty())
    contents.tensors[kCallbacks] = std::move(tensors);
  Json schedule = Json::object();
  schedule.set("step", loop.scheduler_step).set("state", lr_scheduler_->state());
  contents.texts[kScheduler] = schedule.dump(2) + "\n";
  if (loop.scaler) contents.texts[kScaler] = loop.scaler->state().dump(2) + "\n";
  const Generator::State random = generator_.state();
  const std::vector<std::string> positions =
      distribution_->gather_text(std::to_string(random.position));
  contents.texts[kRandom] = random_json(random.seed, positions).dump(2) + "\n";
  contents.texts[kProgress] = loop.to_json(args_, control_).dump(2) + "\n";
  return contents;
}

// All processes write into the folder that the first has made; then that gives it its name.
void Trainer::write_with_shards(const fs::path& folder, const CheckpointContents& contents,
                                const RotationRules& rules) {
  std::optional<CheckpointWriter> writer;
  const fs::path partial = distribution_->run_on_first([&] {
    writer.emplace(folder);
    return writer->folder().string();
  });
  dist::FullySharded& sharded = *distribution_->sharded();
  dist::ProcessGroup& group = *sharded.group();
  if (distribution_->plan().state_dict_type == StateDictType::sharded)
    dist::save_sharded(group, partial / kModelShards, model_pieces(sharded, model_.module()));
  if (!args_.save_only_model)
    dist::save_sharded(group, partial / kOptimizerShards,
                       optimizer_pieces(sharded.shards(), optimizer_->state_dict()));
  distribution_->run_on_first([&] {
    write_contents(*writer, contents, folder.parent_path(), rules);
    return std::string();
  });
}

// The checkpoint of the best step may have been written before its evaluation, or after.
void Trainer::note_best_checkpoint() {
  if (!state_.best_global_step) return;
  if (loop_) loop_->writer.wait();
  const fs::path folder = folder_of_step(args_, *state_.best_global_step);
  if (fs::is_directory(folder)) state_.best_model_checkpoint = folder.string();
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
  if (saved_round == round && saved_world == now.world_size &&
      saved("gradient_accumulation_steps") == args_.gradient_accumulation_steps &&
      saved("batches_per_epoch") == loop.plan.batches_per_epoch.value_or(-1))
    return;
  const bool same_steps = saved_round * saved("gradient_accumulation_steps") ==
                          round * args_.gradient_accumulation_steps;
  if (same_steps && loop.batch * saved_round % round == 0) {
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
  if (!changes.empty())
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

void Trainer::rotate_at_end() {
  if (!args_.save_total_limit || !distribution_->is_first()) return;
  RotationRules rules{.save_total_limit = args_.save_total_limit, .training_ended = true};
  if (state_.best_model_checkpoint) rules.best = *state_.best_model_checkpoint;
  rotate_checkpoints(args_.expanded_output_dir(), rules);
}

void Trainer::save_model(const std::string& output_dir) {
  const fs::path folder = output_dir.empty() ? args_.expanded_output_dir() : output_dir;
  const StateDict state = distribution_->sharded() ? distribution_->sharded()->full_state_dict()
                                                   : model_.module().state_dict();
  distribution_->run_on_first([&] {
    std::error_code error;
    fs::create_directories(folder, error);
    TENDRIL_CHECK(!error, "[save_model] cannot make folder ", folder.string(), ": ",
                  error.message());
    save_safetensors((folder / kModel).string(), state);
    if (const auto config = model_.config_json())
      write_text_file((folder / kConfig).string(), *config);
    write_text_file((folder / kArguments).string(), args_.to_json_string());
    return std::string();
  });
}

void Trainer::save_state() {
  if (!distribution_->is_first()) return;
  write_text_file((fs::path(args_.expanded_output_dir()) / kState).string(),
                  state_.to_json_string());
}

void Trainer::save_metrics(const std::string& split, const Metrics& metrics, bool combined) {
  if (!distribution_->is_first()) return;
  const fs::path folder = args_.expanded_output_dir();
  Json object = Json::object();
  for (const auto& [name, value] : metrics) object.set(name, json_number(value));
  write_text_file((folder / (split + "_results.json")).string(), object.dump(4) + "\n");
  if (!combined) return;
  const fs::path all = folder / "all_results.json";
  std::map<std::string, Json> merged;  // sorted by name
  if (fs::exists(all)) {
    const Json before = read_json(all);
    for (const auto& [name, value] : before.members()) merged[name] = value;
  }
  for (const auto& [name, value] : object.members()) merged[name] = value;
  Json together = Json::object();
  for (auto& [name, value] : merged) together.set(name, std::move(value));
  write_text_file(all.string(), together.dump(4) + "\n");
}

void Trainer::log_metrics(const std::string& split, const Metrics& metrics) const {
  log_info("***** ", split, " metrics *****");
  for (const auto& [name, value] : metrics) log_info("  ", name, " = ", value);
}

}  // namespace tendril
