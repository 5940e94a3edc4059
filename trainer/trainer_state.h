// Where a run is: what trainer_state.json holds, in the Hugging Face Trainer's layout.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <tendril/core/json.h>

namespace tendril {

struct TENDRIL_API TrainerState {
  std::optional<double> epoch;  // fraction of passes done; null before training
  int64_t global_step = 0;      // optimizer steps done
  int64_t max_steps = 0;
  int64_t num_train_epochs = 0;
  double logging_steps = 500, eval_steps = 500, save_steps = 500;  // fractions resolved to steps
  std::optional<int64_t> train_batch_size;
  int64_t num_input_tokens_seen = 0;
  double total_flos = 0.0;
  std::vector<Json> log_history;  // objects, one per log row
  std::optional<double> best_metric;
  std::optional<int64_t> best_global_step;
  std::optional<std::string> best_model_checkpoint;
  bool is_local_process_zero = true, is_world_process_zero = true;
  bool is_hyper_param_search = false;
  std::optional<std::string> trial_name;
  Json trial_params;                         // null outside of a search
  Json stateful_callbacks = Json::object();  // class name -> state, or an array of them

  /// The text of trainer_state.json: indented by 2, keys sorted, a newline at the end.
  std::string to_json_string() const;
  /// Error naming the member that is missing or of a wrong type; `origin` is the file's name.
  static TrainerState from_json(const Json& object, const std::string& origin);
};

/// What callbacks ask of the loop, and what the loop asks itself. When each is cleared:
/// should_training_stop at on_train_begin, should_epoch_stop at on_epoch_begin, the others at
/// on_step_begin and at on_save, on_evaluate or on_log.
struct TENDRIL_API TrainerControl {
  bool should_training_stop = false;
  bool should_epoch_stop = false;
  bool should_save = false;
  bool should_evaluate = false;
  bool should_log = false;

  /// {"args": {the flags}, "attributes": {}}
  Json state() const;
  void load_state(const Json& state);
};

/// A number for a JSON file: null where JSON has none (NaN, infinity).
TENDRIL_API Json json_number(double value);

}  // namespace tendril
