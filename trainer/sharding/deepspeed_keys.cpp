#include <tendril/trainer/sharding/deepspeed_keys.h>

#include <tendril/trainer/arguments/type.h>

namespace tendril::sharding {
namespace {

struct Knobs {
  const char* section;
  std::vector<const char*> keys;
};

const std::vector<Knobs>& knobs() {
  static const std::vector<Knobs> kKnobs = {
      {"",
       {"steps_per_print",
        "wall_clock_breakdown",
        "memory_breakdown",
        "dump_state",
        "zero_allow_untested_optimizer",
        "zero_allow_untrained_optimizer",
        "zero_force_ds_cpu_optimizer",
        "activation_checkpointing",
        "flops_profiler",
        "tensorboard",
        "wandb",
        "comet",
        "csv_monitor",
        "comms_logger",
        "prescale_gradients",
        "gradient_predivide_factor",
        "sparse_gradients",
        "disable_allgather",
        "graph_harvesting",
        "aio",
        "checkpoint",
        "timers",
        "dataloader_drop_last",
        "use_node_local_storage"}},
      {"fp16",
       {"auto_cast", "initial_scale_power", "loss_scale_window", "hysteresis", "min_loss_scale",
        "consecutive_hysteresis"}},
      {"bf16", {"auto_cast", "immediate_grad_update", "check_grad_overflow"}},
      {"zero_optimization",
       {"contiguous_gradients",
        "reduce_scatter",
        "reduce_bucket_size",
        "use_multi_rank_bucket_allreduce",
        "allgather_partitions",
        "allgather_bucket_size",
        "overlap_comm",
        "load_from_fp32_weights",
        "elastic_checkpoint",
        "sub_group_size",
        "stage3_prefetch_bucket_size",
        "stage3_param_persistence_threshold",
        "stage3_model_persistence_threshold",
        "stage3_max_live_parameters",
        "stage3_max_reuse_distance",
        "ignore_unused_parameters",
        "round_robin_gradients",
        "memory_efficient_linear",
        "cpu_offload_use_pin_memory",
        "legacy_stage1",
        "log_trace_cache_warnings",
        "stage3_use_all_reduce_for_fetch_params",
        "pipeline_loading_checkpoint",
        "override_module_apply",
        "module_granularity_threshold",
        "stage3_module_granularity_threshold",
        "save_muon_momentum_buffer_in_memory"}},
      {"offload_optimizer",
       {"nvme_path", "buffer_count", "pin_memory", "pipeline_read", "pipeline_write", "fast_init",
        "ratio"}},
      {"offload_param", {"nvme_path", "buffer_count", "buffer_size", "max_in_cpu", "pin_memory"}},
      {"optimizer", {"torch_adam", "fused"}},
      {"scheduler", {"last_batch_iteration"}},
  };
  return kKnobs;
}

struct Refusal {
  const char* section;
  const char* key;
  const char* inactive;  // besides null, false and {"enabled": false}
  const char* why;
};

constexpr const char* kQuantised = "ZeRO++ quantises what travels, which changes the result";
constexpr const char* kMixture = "mixtures of experts are not in this version";
constexpr Refusal kRefusals[] = {
    {"zero_optimization", "zero_quantized_weights", "", kQuantised},
    {"zero_optimization", "zero_quantized_gradients", "", kQuantised},
    {"zero_optimization", "zero_quantized_nontrainable_weights", "", kQuantised},
    {"zero_optimization", "zero_hpz_partition_size", "1",
     "ZeRO++'s second copy is not in this version; use fsdp \"hybrid_shard\""},
    {"zero_optimization", "mics_shard_size", "-1",
     "MiCS is not in this version; use fsdp \"hybrid_shard\""},
    {"zero_optimization", "mics_hierarchical_params_gather", "",
     "MiCS is not in this version; use fsdp \"hybrid_shard\""},
    {"zero_optimization", "zenflow", "", "ZenFlow updates with old gradients"},
    {"zero_optimization", "cpu_offload", "",
     "it is obsolete; use offload_optimizer {\"device\": \"cpu\"}"},
    {"zero_optimization", "cpu_offload_params", "",
     "it is obsolete; use offload_param {\"device\": \"cpu\"}"},
    {"zero_optimization", "leaf_module", "", kMixture},
    {"fp16", "loss_scale", "0", "the loss scale adapts here; use 0"},
    {"fp16", "fp16_master_weights_and_grads", "", "the parts are kept in f32"},
    {"bf16", "bf16_master_weights_and_grads", "", "the parts are kept in f32"},
    {"bf16", "bf16_optimizer_states", "", "optimizer state is kept in f32; see optim adamw_8bit"},
    {"", "amp", "", "there is no apex; use bf16 or fp16"},
    {"", "torch_autocast", "", "use the arguments bf16 or fp16"},
    {"", "data_efficiency", "", "samplers belong to the Trainer's data"},
    {"", "curriculum_learning", "", "samplers belong to the Trainer's data"},
    {"", "elasticity", "", "the number of processes is fixed during a run"},
    {"", "autotuning", "", "there is no autotuner"},
    {"", "compression_training", "", "compression is not in this version"},
    {"", "quantize_training", "", "quantised training is not in this version"},
    {"", "weight_quantization", "", "quantised training is not in this version"},
    {"", "progressive_layer_drop", "", "it changes the model"},
    {"", "eigenvalue", "", "it belongs to quantised training, which is not in this version"},
    {"", "sparse_attention", "", "it changes the model"},
    {"", "hybrid_engine", "", "it is not in this version"},
    {"", "pipeline", "", "pipeline parallelism is not in this version"},
    {"", "tensor_parallel", "", "tensor parallelism is not in this version"},
    {"", "moe", "", kMixture},
    {"", "use_data_before_expert_parallelism", "", kMixture},
    {"", "nebula", "", "checkpoints are the Trainer's"},
    {"", "compile", "", "there is no graph to compile"},
    {"optimizer", "amsgrad", "", "use optim_args \"amsgrad=true\" and leave it out"},
    {"optimizer", "freeze_step", "", "1-bit optimizers are not in this version"},
};

bool is_switched_on(const Json& value, const std::string& inactive) {
  if (value.kind() == Json::Kind::boolean) return value.as_bool();
  if (value.is_object()) {
    const Json* enabled = value.find("enabled");
    return enabled ? is_switched_on(*enabled, "") : !value.members().empty();
  }
  const std::string text = value.is_string() ? value.as_string() : value.dump();
  if (const auto flag = flag_from(text); flag && inactive.empty()) return *flag;
  return text != inactive && text != inactive + ".0";
}

}  // namespace

std::vector<std::string> take_knobs(ConfigSection& config, const std::string& section) {
  std::vector<std::string> taken;
  for (const Knobs& entry : knobs())
    if (section == entry.section)
      for (const char* key : entry.keys)
        if (config.take(key)) taken.push_back(config.path(key));
  return taken;
}

void refuse(ConfigSection& config, const std::string& section, Problems& problems) {
  for (const Refusal& entry : kRefusals) {
    if (section != entry.section) continue;
    const Json* value = config.take(entry.key);
    if (value && is_switched_on(*value, entry.inactive))
      problems.add(config.path(entry.key), " is ", shown(*value), ": ", entry.why);
  }
}

}  // namespace tendril::sharding
