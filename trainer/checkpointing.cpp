// Writing checkpoints, and what a run leaves behind.
#include <tendril/core/log.h>
#include <tendril/core/safetensors.h>
#include <tendril/trainer/checkpoint/checkpoint_writer.h>
#include <tendril/trainer/checkpoint/rotation.h>
#include <tendril/trainer/checkpoint_files.h>
#include <tendril/trainer/distribution.h>
#include <tendril/trainer/evaluated_weights.h>
#include <tendril/trainer/sharded_state.h>
#include <tendril/trainer/training_loop.h>

namespace fs = std::filesystem;

namespace tendril {
namespace {

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
