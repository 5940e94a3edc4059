#include <tendril/trainer/arguments/check.h>

#include <algorithm>
#include <cmath>

#include <tendril/core/error.h>
#include <tendril/trainer/arguments/type.h>
#include <tendril/trainer/sharding/fsdp.h>

namespace tendril {
namespace {

// Beyond these, step arithmetic in 64 bits would overflow.
constexpr double kMostSteps = 1e15, kMostEpochs = 1e9;

struct Rules {
  const TrainingArguments& a;
  std::string prefix;

  template <class... Parts>
  void require(bool condition, const Parts&... parts) const {
    if (!condition) fail(prefix, parts...);
  }
  void at_least(int64_t least, const char* name, std::optional<int64_t> value) const {
    require(!value || *value >= least, name, " must be at least ", least, "; got ",
            value.value_or(0));
  }
  void not_negative(const char* name, std::optional<double> value) const {
    require(!value || (std::isfinite(*value) && *value >= 0.0), name,
            " must be finite and at least 0; got ", value.value_or(0.0));
  }
  void below_one(const char* name, double value) const {
    require(value >= 0.0 && value < 1.0, name, " must be at least 0 and below 1; got ", value);
  }
  void not_empty(const char* name, const std::optional<std::string>& text) const {
    require(!text || !text->empty(), name, " must not be empty");
  }
  void one_of(const char* name, const std::string& text,
              const std::vector<std::string>& choices) const {
    if (std::find(choices.begin(), choices.end(), text) != choices.end()) return;
    std::string list;
    for (const std::string& choice : choices)
      list += (list.empty() ? "" : ", ") + (choice.empty() ? "\"\"" : choice);
    require(false, name, " must be one of ", list, "; got ", shown(text));
  }
  // A count, or a fraction of all steps.
  void steps(const char* name, double value) const {
    require(value > 0.0 && value <= kMostSteps, name,
            " must be above 0 where its strategy is steps; got ", value);
    require(value <= 1.0 || value == std::floor(value), name,
            " must be a whole number when it is above 1; got ", value);
  }
  // An object whose members are all among `names`, with true, false or null.
  void switches(const char* name, const Json& value, const std::vector<std::string>& names) const {
    if (value.is_null()) return;
    require(value.is_object(), name, " must be an object; got ", shown(value));
    for (const auto& [member, state] : value.members()) {
      one_of(name, member, names);
      require(state.is_null() || state.kind() == Json::Kind::boolean, name, ".", member,
              " must be true or false; got ", shown(state));
    }
  }

  void check_training() const;
  void check_optimizer() const;
  void check_precision() const;
  void check_evaluation() const;
  void check_checkpoints() const;
  void check_best_model() const;
  void check_logging() const;
  void check_data() const;
  void check_processes() const;
};

void Rules::check_training() const {
  not_empty("output_dir", a.output_dir);
  require(a.num_train_epochs >= 0.0 && a.num_train_epochs <= kMostEpochs,
          "num_train_epochs must be between 0 and 1e9; got ", a.num_train_epochs);
  at_least(-1, "max_steps", a.max_steps);
  require(static_cast<double>(a.max_steps) <= kMostSteps, "max_steps must be at most 1e15; got ",
          a.max_steps);
  at_least(1, "per_device_train_batch_size", a.per_device_train_batch_size);
  at_least(1, "per_device_eval_batch_size", a.per_device_eval_batch_size);
  at_least(1, "gradient_accumulation_steps", a.gradient_accumulation_steps);
  not_negative("max_grad_norm", a.max_grad_norm);
  below_one("label_smoothing_factor", a.label_smoothing_factor);
  at_least(1, "torch_empty_cache_steps", a.torch_empty_cache_steps);
  switches("gradient_checkpointing_kwargs", a.gradient_checkpointing_kwargs, {"use_reentrant"});
  if (const Json& options = a.gradient_checkpointing_kwargs; options.is_object())
    for (const auto& [name, value] : options.members())
      require(value.is_null() || !value.as_bool(), "gradient_checkpointing_kwargs.", name,
              " must be false: recomputation here never enters the tape again");
}

void Rules::check_optimizer() const {
  not_negative("learning_rate", a.learning_rate);
  not_empty("optim", a.optim);
  try {
    a.parsed_optim_args();
  } catch (const Error& problem) {
    // The same sentence, with the origin before it.
    const std::string text = problem.what();
    fail(prefix, text.substr(text.find("] ") + 2));
  }
  not_negative("weight_decay", a.weight_decay);
  below_one("adam_beta1", a.adam_beta1);
  below_one("adam_beta2", a.adam_beta2);
  not_negative("adam_epsilon", a.adam_epsilon);
  require(a.lr_scheduler_kwargs.is_null() || a.lr_scheduler_kwargs.is_object(),
          "lr_scheduler_kwargs must be an object; got ", shown(a.lr_scheduler_kwargs));
  require(
      a.lr_scheduler_type != SchedulerType::reduce_lr_on_plateau ||
          a.eval_strategy != IntervalStrategy::no,
      "lr_scheduler_type reduce_lr_on_plateau follows evaluations; got eval_strategy no; set it to "
      "steps or epoch");
  not_negative("warmup_steps", a.warmup_steps);
  require(a.warmup_steps <= kMostSteps, "warmup_steps must be at most 1e15; got ", a.warmup_steps);
  require(!a.warmup_ratio || (*a.warmup_ratio >= 0.0 && *a.warmup_ratio <= 1.0),
          "warmup_ratio must be between 0 and 1; got ", a.warmup_ratio.value_or(0.0));
  not_negative("neftune_noise_alpha", a.neftune_noise_alpha);
}

void Rules::check_precision() const {
  require(!(a.bf16 && a.fp16), "bf16 and fp16 cannot both be on; choose one");
  require(!(a.bf16_full_eval && a.fp16_full_eval),
          "bf16_full_eval and fp16_full_eval cannot both be on; choose one");
}

void Rules::check_evaluation() const {
  not_negative("eval_steps", a.eval_steps);
  not_negative("eval_delay", a.eval_delay);
  if (a.eval_strategy == IntervalStrategy::steps) {
    const double steps_between = *a.effective_eval_steps();
    require(steps_between != 0.0,
            "eval_strategy steps needs eval_steps or logging_steps above 0; got 0 for both");
    steps("eval_steps", steps_between);
  }
  at_least(1, "eval_accumulation_steps", a.eval_accumulation_steps);
  for (const std::string& name : a.include_for_metrics)
    one_of("include_for_metrics", name, {"inputs", "loss"});
  if (a.label_names)
    for (const std::string& name : *a.label_names) not_empty("label_names", name);
  not_empty("metric_for_best_model", a.metric_for_best_model);
}

void Rules::check_checkpoints() const {
  not_negative("save_steps", a.save_steps);
  if (a.save_strategy == SaveStrategy::steps) steps("save_steps", a.save_steps);
  if (a.save_strategy == SaveStrategy::best) {
    require(a.eval_strategy != IntervalStrategy::no,
            "save_strategy best saves after evaluations; got eval_strategy no; set it to steps or "
            "epoch");
    require(a.effective_metric_for_best_model().has_value(),
            "save_strategy best needs metric_for_best_model, for example loss");
  }
}

void Rules::check_best_model() const {
  if (!a.load_best_model_at_end) return;
  require(
      a.eval_strategy != IntervalStrategy::no,
      "load_best_model_at_end needs evaluations; got eval_strategy no; set it to steps or epoch");
  if (a.save_strategy == SaveStrategy::best) return;
  const bool both_steps =
      a.eval_strategy == IntervalStrategy::steps && a.save_strategy == SaveStrategy::steps;
  const bool both_epochs =
      a.eval_strategy == IntervalStrategy::epoch && a.save_strategy == SaveStrategy::epoch;
  require(both_steps || both_epochs, "load_best_model_at_end needs save_strategy ",
          a.eval_strategy == IntervalStrategy::steps ? "steps" : "epoch",
          ", like eval_strategy, or best");
  if (!both_steps) return;
  const double eval = *a.effective_eval_steps(), save = a.save_steps;
  require((eval < 1.0) == (save < 1.0),
          "load_best_model_at_end cannot compare a fraction with a count of steps; got save_steps ",
          save, " and eval_steps ", eval, "; give both as the one or the other");
  // Fractions become whole numbers first: 0.3 is no multiple of 0.1 in floating point.
  const double scale = eval < 1.0 ? 1e6 : 1.0;
  const int64_t eval_units = std::llround(eval * scale), save_units = std::llround(save * scale);
  require(eval_units > 0 && save_units > 0,
          "load_best_model_at_end compares fractions down to 1e-6; got save_steps ", save,
          " and eval_steps ", eval);
  require(
      save_units % eval_units == 0,
      "load_best_model_at_end needs save_steps that are a multiple of eval_steps; got save_steps ",
      save, " and eval_steps ", eval);
}

void Rules::check_logging() const {
  not_negative("logging_steps", a.logging_steps);
  if (a.logging_strategy == IntervalStrategy::steps) steps("logging_steps", a.logging_steps);
  one_of("include_num_input_tokens_seen", a.include_num_input_tokens_seen,
         {"no", "all", "non_padding"});
  const std::vector<std::string> levels = {"debug", "info",     "warning",
                                           "error", "critical", "passive"};
  one_of("log_level", a.log_level, levels);
  one_of("log_level_replica", a.log_level_replica, levels);
  for (const std::string& name : a.report_to) {
    one_of("report_to", name, {"jsonl", "csv", "tensorboard", "html", "all", "none"});
    require(name != "none" || a.report_to.size() == 1,
            "report_to names none and others; choose either");
  }
  not_empty("logging_dir", a.logging_dir);
}

void Rules::check_data() const {
  at_least(0, "dataloader_num_workers", a.dataloader_num_workers);
  at_least(1, "dataloader_prefetch_factor", a.dataloader_prefetch_factor);
  require(!a.dataloader_prefetch_factor || a.dataloader_num_workers > 0,
          "dataloader_prefetch_factor needs dataloader_num_workers above 0: it is the workers who "
          "prepare batches ahead");
  require(!a.dataloader_persistent_workers || a.dataloader_num_workers > 0,
          "dataloader_persistent_workers needs dataloader_num_workers above 0: there is nothing to "
          "keep");
  not_empty("length_column_name", a.length_column_name);
  require(
      !a.group_by_length || a.train_sampling_strategy != SamplingStrategy::sequential,
      "group_by_length and train_sampling_strategy sequential contradict each other; choose one");
  switches("accelerator_config", a.accelerator_config,
           {"even_batches", "split_batches", "dispatch_batches", "use_seedable_sampler",
            "non_blocking"});
}

void Rules::check_processes() const {
  at_least(1, "ddp_bucket_cap_mb", a.ddp_bucket_cap_mb);
  at_least(1, "ddp_timeout", a.ddp_timeout);
  at_least(-1, "local_rank", a.local_rank);
  if (a.ddp_backend) one_of("ddp_backend", *a.ddp_backend, {"", "mpi", "nccl"});
  const bool shards = sharding::fsdp_words(a.fsdp, prefix).has_value();
  require(!shards || a.deepspeed.is_null(), "fsdp and deepspeed are two ways to shard; choose one");
  const auto object_or_path = [&](const char* name, const Json& value) {
    require(value.is_null() || value.is_object() || value.is_string(), name,
            " must be an object or the path of a file; got ", shown(value));
    require(!value.is_string() || !value.as_string().empty(), name, " must not be empty");
  };
  object_or_path("fsdp_config", a.fsdp_config);
  object_or_path("deepspeed", a.deepspeed);
}

}  // namespace

void check_arguments(const TrainingArguments& arguments, const std::string& origin) {
  const Rules rules{arguments, "[training_arguments] " + (origin.empty() ? "" : origin + ": ")};
  rules.check_training();
  rules.check_optimizer();
  rules.check_precision();
  rules.check_evaluation();
  rules.check_checkpoints();
  rules.check_best_model();
  rules.check_logging();
  rules.check_data();
  rules.check_processes();
}

void TrainingArguments::validate() const { check_arguments(*this); }

}  // namespace tendril
