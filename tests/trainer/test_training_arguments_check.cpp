// Every rule of TrainingArguments::validate(), by what it says, and the neighbours that it lets
// pass.
#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include <tendril/core/error.h>
#include <tendril/trainer/training_arguments.h>

#include "../file_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

using Args = TrainingArguments;

struct Mistake {
  Args args;
  const char* message;
};

void check_refused(const std::vector<Mistake>& mistakes) {
  for (const auto& [args, message] : mistakes) {
    CAPTURE(message);
    const std::string error = error_of([&args = args] { args.validate(); });
    CHECK_MESSAGE(error.starts_with("[training_arguments] "), error);
    CHECK_MESSAGE(contains_text(error, message), error);
  }
}

void check_accepted(const std::vector<Args>& all) {
  for (const Args& args : all)
    CHECK_MESSAGE(error_of([&] { args.validate(); }) == "", args.to_json_string());
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr auto kSteps = IntervalStrategy::steps;
constexpr auto kEpoch = IntervalStrategy::epoch;
constexpr auto kNo = IntervalStrategy::no;

Json json(const char* text) { return Json::parse(text, "test"); }

}  // namespace

TEST_SUITE_BEGIN("training_arguments_check");

TEST_CASE("training") {
  check_refused({
      {{.output_dir = ""}, "output_dir must not be empty"},
      {{.num_train_epochs = -1}, "num_train_epochs must be between 0 and 1e9; got -1"},
      {{.num_train_epochs = kInf}, "num_train_epochs must be between"},
      {{.num_train_epochs = kNan}, "num_train_epochs must be between"},
      {{.max_steps = -2}, "max_steps must be at least -1; got -2"},
      {{.max_steps = std::numeric_limits<int64_t>::max()}, "max_steps must be at most 1e15"},
      {{.per_device_train_batch_size = 0}, "per_device_train_batch_size must be at least 1; got 0"},
      {{.per_device_eval_batch_size = -8}, "per_device_eval_batch_size must be at least 1; got -8"},
      {{.gradient_accumulation_steps = 0}, "gradient_accumulation_steps must be at least 1; got 0"},
      {{.max_grad_norm = -1}, "max_grad_norm must be finite and at least 0; got -1"},
      {{.max_grad_norm = kNan}, "max_grad_norm must be finite"},
      {{.label_smoothing_factor = 1.0},
       "label_smoothing_factor must be at least 0 and below 1; got 1"},
      {{.label_smoothing_factor = -0.1}, "label_smoothing_factor must be at least 0"},
      {{.gradient_checkpointing_kwargs = json("{\"use_reentrant\": true}")},
       "gradient_checkpointing_kwargs.use_reentrant must be false"},
      {{.gradient_checkpointing_kwargs = json("{\"reentrant\": true}")},
       "gradient_checkpointing_kwargs must be one of use_reentrant; got \"reentrant\""},
      {{.gradient_checkpointing_kwargs = "a.json"},
       "gradient_checkpointing_kwargs must be an object"},
      {{.torch_empty_cache_steps = 0}, "torch_empty_cache_steps must be at least 1; got 0"},
  });
  check_accepted({{.num_train_epochs = 0},
                  {.max_steps = 0},
                  {.max_grad_norm = 0},
                  {.gradient_checkpointing_kwargs = json("{\"use_reentrant\": false}")},
                  {.torch_empty_cache_steps = 1}});
}

TEST_CASE("optimizer and schedule") {
  check_refused({
      {{.learning_rate = -1e-3}, "learning_rate must be finite and at least 0; got -0.001"},
      {{.learning_rate = kInf}, "learning_rate must be finite"},
      {{.learning_rate = kNan}, "learning_rate must be finite"},
      {{.optim = ""}, "optim must not be empty"},
      {{.optim_args = "rank"}, "optim_args must read \"name=value, name=value\"; got rank"},
      {{.weight_decay = -0.1}, "weight_decay must be finite and at least 0"},
      {{.adam_beta1 = 1.0}, "adam_beta1 must be at least 0 and below 1; got 1"},
      {{.adam_beta2 = -0.5}, "adam_beta2 must be at least 0 and below 1; got -0.5"},
      {{.adam_beta2 = kNan}, "adam_beta2 must be at least 0 and below 1"},
      {{.adam_epsilon = -1e-8}, "adam_epsilon must be finite and at least 0"},
      {{.lr_scheduler_kwargs = "kwargs.json"}, "lr_scheduler_kwargs must be an object"},
      {{.lr_scheduler_type = SchedulerType::reduce_lr_on_plateau},
       "lr_scheduler_type reduce_lr_on_plateau follows evaluations; got eval_strategy no"},
      {{.warmup_steps = -1}, "warmup_steps must be finite and at least 0; got -1"},
      {{.warmup_steps = 1e300}, "warmup_steps must be at most 1e15"},
      {{.warmup_ratio = 1.5}, "warmup_ratio must be between 0 and 1; got 1.5"},
      {{.warmup_ratio = -0.1}, "warmup_ratio must be between 0 and 1"},
      {{.neftune_noise_alpha = -5}, "neftune_noise_alpha must be finite and at least 0"},
  });
  check_accepted(
      {{.learning_rate = 0},
       {.adam_beta1 = 0},
       {.lr_scheduler_type = SchedulerType::reduce_lr_on_plateau, .eval_strategy = kEpoch},
       {.warmup_ratio = 1.0},
       {.optim = "my_own"}});
}

TEST_CASE("precision") {
  check_refused({
      {{.bf16 = true, .fp16 = true}, "bf16 and fp16 cannot both be on"},
      {{.bf16_full_eval = true, .fp16_full_eval = true},
       "bf16_full_eval and fp16_full_eval cannot both be on"},
  });
  check_accepted({{.bf16 = true, .bf16_full_eval = true}, {.fp16 = true, .bf16_full_eval = true}});
}

TEST_CASE("evaluation") {
  check_refused({
      {{.eval_strategy = kSteps, .eval_steps = 1.5},
       "eval_steps must be a whole number when it is above 1; got 1.5"},
      {{.eval_strategy = kSteps, .eval_steps = 0.0, .logging_strategy = kNo, .logging_steps = 0},
       "eval_strategy steps needs eval_steps or logging_steps above 0"},
      {{.eval_strategy = kSteps, .logging_strategy = kNo, .logging_steps = 2.5},
       "eval_steps must be a whole number"},  // which it takes from logging_steps
      {{.eval_steps = -10}, "eval_steps must be finite and at least 0; got -10"},
      {{.eval_delay = -1}, "eval_delay must be finite and at least 0"},
      {{.eval_accumulation_steps = 0}, "eval_accumulation_steps must be at least 1"},
      {{.include_for_metrics = {"inputs", "logits"}},
       "include_for_metrics must be one of inputs, loss; got \"logits\""},
      {{.label_names = std::vector<std::string>{""}}, "label_names must not be empty"},
      {{.metric_for_best_model = ""}, "metric_for_best_model must not be empty"},
  });
  check_accepted({{.eval_strategy = kSteps, .eval_steps = 0.1},
                  {.eval_strategy = kSteps, .eval_steps = 1.0},
                  {.eval_strategy = kSteps, .eval_steps = 0.0},
                  {.eval_strategy = kEpoch, .eval_steps = 1.5}});  // not used
}

TEST_CASE("checkpoints") {
  check_refused({
      {{.save_steps = 1.5}, "save_steps must be a whole number when it is above 1; got 1.5"},
      {{.save_steps = 0}, "save_steps must be above 0 where its strategy is steps; got 0"},
      {{.save_steps = kNan}, "save_steps must be finite"},
      {{.save_steps = 1e300}, "save_steps must be above 0"},
      {{.save_strategy = SaveStrategy::no, .save_steps = -1},
       "save_steps must be finite and at least 0"},
      {{.eval_strategy = kEpoch, .save_strategy = SaveStrategy::best},
       "save_strategy best needs metric_for_best_model"},
      {{.metric_for_best_model = "loss", .save_strategy = SaveStrategy::best},
       "save_strategy best saves after evaluations; got eval_strategy no"},
  });
  check_accepted({{.save_strategy = SaveStrategy::no, .save_steps = 0},
                  {.save_total_limit = 0},
                  {.save_total_limit = -1},
                  {.eval_strategy = kEpoch,
                   .metric_for_best_model = "x",
                   .save_strategy = SaveStrategy::best}});
}

TEST_CASE("the best model") {
  constexpr auto kSaveEpoch = SaveStrategy::epoch;
  check_refused({
      {{.load_best_model_at_end = true}, "load_best_model_at_end needs evaluations"},
      {{.eval_strategy = kEpoch, .load_best_model_at_end = true},
       "load_best_model_at_end needs save_strategy epoch, like eval_strategy, or best"},
      {{.eval_strategy = kSteps, .save_strategy = kSaveEpoch, .load_best_model_at_end = true},
       "load_best_model_at_end needs save_strategy steps, like eval_strategy, or best"},
      {{.eval_strategy = kSteps, .eval_steps = 200, .load_best_model_at_end = true},
       "multiple of eval_steps; got save_steps 500 and eval_steps 200"},
      {{.eval_strategy = kSteps, .save_steps = 250, .load_best_model_at_end = true},
       "multiple of eval_steps; got save_steps 250 and eval_steps 500"},  // from logging_steps
      {{.eval_strategy = kSteps, .eval_steps = 0.1, .load_best_model_at_end = true},
       "cannot compare a fraction with a count of steps; got save_steps 500 and eval_steps 0.1"},
      {{.eval_strategy = kSteps,
        .eval_steps = 0.2,
        .save_steps = 0.3,
        .load_best_model_at_end = true},
       "multiple of eval_steps; got save_steps 0.3 and eval_steps 0.2"},
      {{.eval_strategy = kSteps,
        .eval_steps = 1e-9,
        .save_steps = 0.3,
        .load_best_model_at_end = true},
       "compares fractions down to 1e-6"},
  });
  check_accepted({
      {.eval_strategy = kSteps, .eval_steps = 100, .load_best_model_at_end = true},
      // 0.3 / 0.1 is not 3 in floating point
      {.eval_strategy = kSteps,
       .eval_steps = 0.1,
       .save_steps = 0.3,
       .load_best_model_at_end = true},
      {.eval_strategy = kEpoch, .save_strategy = kSaveEpoch, .load_best_model_at_end = true},
      {.eval_strategy = kSteps,
       .save_strategy = SaveStrategy::best,
       .load_best_model_at_end = true},
      {.eval_strategy = kEpoch,
       .eval_steps = 7,
       .save_strategy = kSaveEpoch,
       .load_best_model_at_end = true},
  });
}

TEST_CASE("logging") {
  check_refused({
      {{.logging_steps = 0}, "logging_steps must be above 0 where its strategy is steps; got 0"},
      {{.logging_steps = 10.5},
       "logging_steps must be a whole number when it is above 1; got 10.5"},
      {{.logging_strategy = kNo, .logging_steps = -1},
       "logging_steps must be finite and at least 0"},
      {{.include_num_input_tokens_seen = "yes"},
       "include_num_input_tokens_seen must be one of no, all, non_padding; got \"yes\""},
      {{.log_level = "loud"},
       "log_level must be one of debug, info, warning, error, critical, passive"},
      {{.log_level_replica = ""}, "log_level_replica must be one of"},
      {{.report_to = {"wandb"}},
       "report_to must be one of jsonl, csv, tensorboard, html, all, none; got \"wandb\""},
      {{.report_to = {"none", "csv"}}, "report_to names none and others"},
      {{.logging_dir = ""}, "logging_dir must not be empty"},
  });
  check_accepted({{.logging_strategy = kNo, .logging_steps = 0},
                  {.logging_strategy = kEpoch, .logging_steps = 1.5},
                  {.logging_steps = 1},
                  {.report_to = {}},
                  {.report_to = {"all"}}});
}

TEST_CASE("data") {
  check_refused({
      {{.dataloader_num_workers = -1}, "dataloader_num_workers must be at least 0; got -1"},
      {{.dataloader_prefetch_factor = 2},
       "dataloader_prefetch_factor needs dataloader_num_workers above 0"},
      {{.dataloader_num_workers = 1, .dataloader_prefetch_factor = 0},
       "dataloader_prefetch_factor must be at least 1; got 0"},
      {{.dataloader_persistent_workers = true},
       "dataloader_persistent_workers needs dataloader_num_workers above 0"},
      {{.length_column_name = ""}, "length_column_name must not be empty"},
      {{.group_by_length = true, .train_sampling_strategy = SamplingStrategy::sequential},
       "group_by_length and train_sampling_strategy sequential contradict each other"},
      {{.accelerator_config = json("{\"even_batch\": true}")},
       "accelerator_config must be one of even_batches, split_batches, dispatch_batches, "
       "use_seedable_sampler, non_blocking; got \"even_batch\""},
      {{.accelerator_config = json("{\"even_batches\": 1}")},
       "accelerator_config.even_batches must be true or false; got 1"},
  });
  check_accepted(
      {{.dataloader_num_workers = 1, .dataloader_prefetch_factor = 1},
       {.group_by_length = true, .train_sampling_strategy = SamplingStrategy::group_by_length},
       {.accelerator_config = json("{\"dispatch_batches\": null}")}});
}

TEST_CASE("several processes") {
  check_refused(
      {{{.ddp_bucket_cap_mb = 0}, "ddp_bucket_cap_mb must be at least 1; got 0"},
       {{.ddp_backend = "gloo"}, "ddp_backend must be one of \"\", mpi, nccl; got \"gloo\""},
       {{.ddp_timeout = 0}, "ddp_timeout must be at least 1; got 0"},
       {{.fsdp = "full_shard shard_grad_op"},
        "fsdp names two strategies, full_shard and shard_grad_op; choose one"},
       {{.fsdp = "offload"}, "fsdp says offload, but not what is sharded"},
       {{.fsdp = "full_shard auto_warp"}, "got \"auto_warp\"; did you mean auto_wrap?"},
       {{.fsdp = "full_shard", .deepspeed = "ds.json"}, "fsdp and deepspeed are two ways to shard"},
       {{.fsdp_config = json("[1]")},
        "fsdp_config must be an object or the path of a file; got [1]"},
       {{.fsdp_config = ""}, "fsdp_config must not be empty"},
       {{.deepspeed = 2}, "deepspeed must be an object or the path of a file; got 2"},
       {{.local_rank = -2}, "local_rank must be at least -1; got -2"}});
  check_accepted({{.ddp_find_unused_parameters = false,
                   .ddp_bucket_cap_mb = 1,
                   .ddp_broadcast_buffers = false,
                   .ddp_backend = "nccl",
                   .ddp_timeout = 1},
                  {.ddp_backend = "mpi", .fsdp = "full_shard auto_wrap", .local_rank = 3},
                  {.fsdp = "1", .fsdp_config = "fsdp.json"},
                  {.fsdp = "false", .deepspeed = json("{}")},
                  {.deepspeed = "ds_config.json"}});
}

TEST_CASE("arguments that no file could hold are errors in to_json, not wrong files") {
  CHECK(contains_text(error_of([] { Args{.learning_rate = kNan}.to_json(); }), "finite"));
  CHECK(contains_text(
      error_of([] { Args{.eval_strategy = static_cast<IntervalStrategy>(9)}.to_json(); }),
      "must be one of no, steps, epoch; got the number 9"));
}

TEST_SUITE_END();
