#include <tendril/trainer/training_arguments.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include <tendril/core/error.h>
#include <tendril/core/log.h>
#include <tendril/trainer/argument_parser.h>
#include <tendril/trainer/arguments/check.h>
#include <tendril/trainer/arguments/list.h>

namespace tendril {
namespace {

TrainingArguments from_settings(const std::vector<ArgumentSetting>& settings,
                                const std::string& origin) {
  TrainingArguments arguments;
  apply_settings(arguments_of(arguments), settings);
  check_arguments(arguments, origin);
  return arguments;
}

}  // namespace

TrainingArguments TrainingArguments::parse(int argc, const char* const* argv) {
  TrainingArguments arguments;
  const std::filesystem::path program = argc > 0 ? argv[0] : "program";
  ArgumentParser parser(program.filename().string());
  parser.add(arguments).parse_or_exit(argc, argv);
  return arguments;
}

TrainingArguments TrainingArguments::from_file(const std::string& path) {
  return from_settings(read_argument_file(path), path);
}

TrainingArguments TrainingArguments::from_json(const Json& object, const std::string& origin) {
  return from_settings(settings_from_json(object, origin), origin);
}

Json TrainingArguments::to_json() const {
  TrainingArguments copy = *this;  // the list points at what may be written
  Json object = Json::object();
  for (const Argument& argument : arguments_of(copy))
    object.set(argument.name, argument.type->to_json(argument.value));
  return object;
}

std::string TrainingArguments::to_json_string() const { return to_json().dump(2); }

bool TrainingArguments::effective_do_eval() const {
  return do_eval || eval_strategy != IntervalStrategy::no;
}

std::optional<double> TrainingArguments::effective_eval_steps() const {
  const bool is_unset = !eval_steps || *eval_steps == 0.0;
  if (is_unset && eval_strategy == IntervalStrategy::steps) return logging_steps;
  return eval_steps;
}

std::optional<std::string> TrainingArguments::effective_metric_for_best_model() const {
  if (metric_for_best_model) return metric_for_best_model;
  if (load_best_model_at_end || lr_scheduler_type == SchedulerType::reduce_lr_on_plateau)
    return "loss";
  return std::nullopt;
}

bool TrainingArguments::effective_greater_is_better() const {
  if (greater_is_better) return *greater_is_better;
  const std::optional<std::string> metric = effective_metric_for_best_model();
  return metric && !metric->ends_with("loss");
}

bool TrainingArguments::effective_disable_tqdm() const {
  if (disable_tqdm) return *disable_tqdm;
  const LogLevel level = log_level == "passive" ? tendril::log_level() : log_level_from(log_level);
  return level > LogLevel::warning;
}

int64_t TrainingArguments::get_warmup_steps(int64_t num_training_steps) const {
  const double steps = warmup_steps > 0.0 ? warmup_steps : warmup_ratio.value_or(0.0);
  const bool is_fraction = steps < 1.0 || warmup_steps <= 0.0;
  if (!is_fraction) return static_cast<int64_t>(steps);
  return static_cast<int64_t>(std::ceil(static_cast<double>(num_training_steps) * steps));
}

std::string TrainingArguments::expanded_output_dir() const {
  const bool is_home = output_dir == "~" || output_dir.starts_with("~/");
  const char* home = std::getenv("HOME");
  return is_home && home ? home + output_dir.substr(1) : output_dir;
}

std::vector<std::pair<std::string, std::string>> TrainingArguments::parsed_optim_args() const {
  std::vector<std::pair<std::string, std::string>> pairs;
  std::string text = optim_args.value_or("");
  std::erase(text, ' ');
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string part = text.substr(0, comma);
    const size_t equals = part.find('=');
    const bool is_pair = equals != std::string::npos && equals > 0 && equals + 1 < part.size() &&
                         part.find('=', equals + 1) == std::string::npos &&
                         comma + 1 != text.size();
    TENDRIL_CHECK(is_pair,
                  "[training_arguments] optim_args must read \"name=value, name=value\"; got ",
                  *optim_args);
    for (const auto& [name, value] : pairs)
      TENDRIL_CHECK(name != part.substr(0, equals), "[training_arguments] optim_args sets ", name,
                    " twice; got ", *optim_args);
    pairs.emplace_back(part.substr(0, equals), part.substr(equals + 1));
    text.erase(0, comma == std::string::npos ? comma : comma + 1);
  }
  return pairs;
}

}  // namespace tendril
