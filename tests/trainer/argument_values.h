// A value for every field of TrainingArguments that is not its default, for tests that walk over
// all of them.
#pragma once

#include <string>
#include <vector>

#include <tendril/trainer/training_arguments.h>

#include "../file_tools.h"

namespace tendril::testing {

struct ArgumentSample {
  std::string name;
  const char* json;          // the value as JSON
  const char* needs = "{}";  // what must be set besides, for the arguments to be valid
};

inline const std::vector<ArgumentSample> kArgumentSamples = {
    {"output_dir", "\"out/run 1\""},
    {"do_train", "true"},
    {"do_eval", "true"},
    {"do_predict", "true"},
    {"num_train_epochs", "1.5"},
    {"max_steps", "2000"},
    {"per_device_train_batch_size", "16"},
    {"per_device_eval_batch_size", "1"},
    {"gradient_accumulation_steps", "4"},
    {"average_tokens_across_devices", "false"},
    {"max_grad_norm", "0"},
    {"label_smoothing_factor", "0.1"},
    {"seed", "9007199254740993"},  // no double: integers must stay exact
    {"data_seed", "-7"},
    {"full_determinism", "true"},
    {"use_cpu", "true"},
    {"auto_find_batch_size", "true"},
    {"gradient_checkpointing", "true"},
    {"gradient_checkpointing_kwargs", "{\"use_reentrant\":false}"},
    {"torch_empty_cache_steps", "10"},
    {"nonfinite_policy", "\"continue\""},
    {"learning_rate", "3e-04"},
    {"optim", "\"galore_adamw\""},
    {"optim_args", "\"rank=64, scale=0.5\""},
    {"optim_target_modules", "[\"attn\",\"mlp\"]"},
    {"weight_decay", "0.1"},
    {"adam_beta1", "0.8"},
    {"adam_beta2", "0.95"},
    {"adam_epsilon", "1e-06"},
    {"lr_scheduler_type", "\"warmup_stable_decay\""},
    {"lr_scheduler_kwargs", "{\"num_decay_steps\":100,\"min_lr_ratio\":0.1}"},
    {"warmup_steps", "0.1"},
    {"warmup_ratio", "0.05"},
    {"neftune_noise_alpha", "5"},
    {"neftune_length", "\"padded\""},
    {"bf16", "true"},
    {"fp16", "true"},
    {"bf16_full_eval", "true"},
    {"fp16_full_eval", "true"},
    {"tf32", "false"},
    {"eval_strategy", "\"epoch\""},
    {"eval_steps", "50"},
    {"eval_delay", "0.5"},
    {"eval_on_start", "true"},
    {"prediction_loss_only", "true"},
    {"eval_accumulation_steps", "4"},
    {"eval_do_concat_batches", "false"},
    {"batch_eval_metrics", "true"},
    {"include_for_metrics", "[\"inputs\",\"loss\"]"},
    {"label_names", "[\"start\",\"end\"]"},
    {"metric_for_best_model", "\"eval_accuracy\""},
    {"greater_is_better", "true"},
    {"save_strategy", "\"best\"",
     "{\"eval_strategy\":\"epoch\",\"metric_for_best_model\":\"loss\"}"},
    {"save_steps", "0.25"},
    {"save_total_limit", "3"},
    {"save_only_model", "true"},
    {"save_on_each_node", "true"},
    {"save_in_background", "true"},
    {"load_best_model_at_end", "true", "{\"eval_strategy\":\"steps\"}"},
    {"resume_from_checkpoint", "\"out/checkpoint-500\""},
    {"ignore_data_skip", "true"},
    {"restore_callback_states_from_checkpoint", "true"},
    {"enable_jit_checkpoint", "true"},
    {"logging_strategy", "\"no\""},
    {"logging_steps", "10"},
    {"logging_first_step", "true"},
    {"logging_nan_inf_filter", "false"},
    {"include_num_input_tokens_seen", "\"non_padding\""},
    {"log_level", "\"info\""},
    {"log_level_replica", "\"error\""},
    {"log_on_each_node", "false"},
    {"disable_tqdm", "true"},
    {"report_to", "[\"csv\",\"jsonl\"]"},
    {"logging_dir", "\"reports\""},
    {"run_name", "\"r\\u00e9sum\\u00e9 \\\"2\\\"\""},
    {"skip_memory_metrics", "false"},
    {"dataloader_drop_last", "true"},
    {"dataloader_num_workers", "2"},
    {"dataloader_prefetch_factor", "4", "{\"dataloader_num_workers\":2}"},
    {"dataloader_pin_memory", "false"},
    {"dataloader_persistent_workers", "true", "{\"dataloader_num_workers\":2}"},
    {"remove_unused_columns", "false"},
    {"group_by_length", "true"},
    {"length_column_name", "\"tokens\""},
    {"train_sampling_strategy", "\"sequential\""},
    {"accelerator_config", "{\"even_batches\":false,\"dispatch_batches\":null}"},
    {"ddp_find_unused_parameters", "false"},
    {"ddp_bucket_cap_mb", "25"},
    {"ddp_broadcast_buffers", "true"},
    {"ddp_backend", "\"mpi\""},
    {"ddp_timeout", "60"},
    {"fsdp", "\"full_shard auto_wrap\""},
    {"fsdp_config", "{\"min_num_params\":1000}"},
    {"deepspeed", "\"ds_config.json\""},
    {"local_rank", "0"},
};

/// {name: value} with what the value needs besides.
inline Json settings_of(const ArgumentSample& sample) {
  Json settings = Json::parse(sample.needs, "sample");
  return settings.set(sample.name, Json::parse(sample.json, "sample"));
}

/// The text, written to a file of this name, and read again.
inline TrainingArguments from_file_with(const std::string& name, const std::string& text) {
  const TemporaryFolder folder(memory_folder());
  write_bytes(folder.file(name), text);
  return TrainingArguments::from_file(folder.file(name));
}

/// Whether the library was built with yaml-cpp; one without it says so in an Error.
inline bool has_yaml() {
  const std::string error = error_of([] { from_file_with("probe.yaml", "seed: 1\n"); });
  if (!error.empty() && !contains_text(error, "built without yaml-cpp")) throw Error(error);
  return error.empty();
}

}  // namespace tendril::testing
