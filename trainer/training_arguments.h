// TrainingArguments: everything about a training run that is not code. Fields, defaults and
// meanings are those of the Hugging Face Trainer; training_arguments.def lists them.
//
//   TrainingArguments args{.output_dir = "out", .num_train_epochs = 1, .learning_rate = 3e-4};
//   auto args = TrainingArguments::parse(argc, argv);            // --learning_rate 3e-4 --bf16
//   auto args = TrainingArguments::from_file("training.yaml");   // or .json
//
// (Designated initialisers follow the order of the list.)
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <tendril/core/json.h>
#include <tendril/trainer/choices.h>

namespace tendril {

struct TENDRIL_API TrainingArguments {
#define SECTION(title)
#define ARG(type, name, default_value, help) type name = default_value;
#define INAPPLICABLE(name, why)
#include <tendril/trainer/training_arguments.def>

  /// From a command line; --help prints a reference and ends the program with status 0, a mistake
  /// prints its message and ends it with status 1. A first argument that ends in .json, .yaml or
  /// .yml, or --config FILE, is read first; what follows on the line overrides it. A program with
  /// options of its own uses ArgumentParser.
  static TrainingArguments parse(int argc, const char* const* argv);
  /// From a JSON or YAML file, by its extension. Error for unknown names (with the nearest known
  /// one), wrong types and values out of range.
  static TrainingArguments from_file(const std::string& path);
  static TrainingArguments from_json(const Json& object, const std::string& origin);

  /// Error that names the first field or combination of fields that cannot work. The Trainer calls
  /// it; arguments may be changed freely before.
  void validate() const;

  /// All fields, and nothing else: from_json(to_json()) gives the same arguments.
  Json to_json() const;
  std::string to_json_string() const;  // indented by 2

  // ---- derived values, as the Trainer reads them (the fields themselves stay as the user set
  // them)

  /// do_eval, or true when eval_strategy is not no.
  bool effective_do_eval() const;
  /// eval_steps, or logging_steps where it is unset and eval_strategy is steps.
  std::optional<double> effective_eval_steps() const;
  /// The metric's name as set, or "loss" where load_best_model_at_end or a plateau schedule need
  /// one; nullopt: no model is best.
  std::optional<std::string> effective_metric_for_best_model() const;
  bool effective_greater_is_better() const;
  bool effective_disable_tqdm() const;
  /// Steps of warm-up out of `num_training_steps`.
  int64_t get_warmup_steps(int64_t num_training_steps) const;
  /// output_dir with ~ expanded; the folder need not exist.
  std::string expanded_output_dir() const;
  /// optim_args as pairs; Error unless it reads "key=value, key=value".
  std::vector<std::pair<std::string, std::string>> parsed_optim_args() const;
};

}  // namespace tendril
