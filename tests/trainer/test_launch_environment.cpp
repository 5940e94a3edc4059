// A launcher's environment gives the plan that equal arguments give; arguments come first.
#include <doctest/doctest.h>

#include <set>

#include "argument_values.h"
#include "callback_tools.h"
#include "sharding_plan_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// What `accelerate launch --use_fsdp` sets when nothing else is said.
Variables fsdp_variables(const Variables& changes = {}) {
  Variables all = {{"ACCELERATE_USE_FSDP", "true"},
                   {"FSDP_VERSION", "1"},
                   {"FSDP_SHARDING_STRATEGY", "FULL_SHARD"},
                   {"FSDP_RESHARD_AFTER_FORWARD", "true"},
                   {"FSDP_OFFLOAD_PARAMS", "false"},
                   {"FSDP_MIN_NUM_PARAMS", "100000000"},
                   {"FSDP_FORWARD_PREFETCH", "false"},
                   {"FSDP_USE_ORIG_PARAMS", "true"},
                   {"FSDP_CPU_RAM_EFFICIENT_LOADING", "true"},
                   {"FSDP_SYNC_MODULE_STATES", "true"},
                   {"FSDP_ACTIVATION_CHECKPOINTING", "false"}};
  for (const auto& [name, value] : changes) all[name] = value;
  return all;
}

Variables deepspeed_variables(const Variables& changes = {}) {
  Variables all = {{"ACCELERATE_USE_DEEPSPEED", "true"},
                   {"ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"},
                   {"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none"},
                   {"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none"},
                   {"ACCELERATE_DEEPSPEED_ZERO3_INIT", "false"},
                   {"ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL", "false"}};
  for (const auto& [name, value] : changes) all[name] = value;
  return all;
}

TrainingArguments fsdp(const char* words, const char* config, bool bf16 = false) {
  return {.bf16 = bf16, .fsdp = words, .fsdp_config = json_of(config)};
}

TrainingArguments deepspeed(const char* config) { return {.deepspeed = json_of(config)}; }

std::string refusal(const Variables& variables, const TrainingArguments& args = {}) {
  return error_of([&] { plan_of(args, variables); });
}

}  // namespace

TEST_SUITE_BEGIN("launch_environment");

TEST_CASE("a launcher's FSDP is the plan of equal arguments") {
  const std::vector<std::pair<Variables, TrainingArguments>> equals = {
      {{}, fsdp("full_shard", R"({"forward_prefetch": false})")},
      {{{"FSDP_FORWARD_PREFETCH", ""}}, fsdp("full_shard", "null")},
      {{{"FSDP_SHARDING_STRATEGY", "1"},
        {"FSDP_FORWARD_PREFETCH", "true"},
        {"FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP"},
        {"FSDP_TRANSFORMER_CLS_TO_WRAP", "Gpt2Block"},
        {"FSDP_STATE_DICT_TYPE", "FULL_STATE_DICT"},
        {"ACCELERATE_MIXED_PRECISION", "bf16"}},
       fsdp("full_shard auto_wrap", R"({"forward_prefetch": true,
            "transformer_layer_cls_to_wrap": ["Gpt2Block"]})",
            true)},
      {{{"FSDP_SHARDING_STRATEGY", "SHARD_GRAD_OP"},
        {"FSDP_AUTO_WRAP_POLICY", "SIZE_BASED_WRAP"},
        {"FSDP_MIN_NUM_PARAMS", "2000"},
        {"FSDP_BACKWARD_PREFETCH", "BACKWARD_POST"},
        {"FSDP_OFFLOAD_PARAMS", "true"},
        {"FSDP_IGNORED_MODULES", "lm_head"}},
       fsdp("shard_grad_op auto_wrap offload", R"({"forward_prefetch": false,
            "min_num_params": 2000, "backward_prefetch": "backward_post",
            "ignored_modules": "lm_head"})")},
      {{{"FSDP_SHARDING_STRATEGY", "HYBRID_SHARD"},
        {"FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP"},
        {"FSDP_BACKWARD_PREFETCH", "NO_PREFETCH"},
        {"FSDP_CPU_RAM_EFFICIENT_LOADING", "false"},
        {"FSDP_SYNC_MODULE_STATES", "false"},
        {"FSDP_ACTIVATION_CHECKPOINTING", "true"},
        {"FSDP_STATE_DICT_TYPE", "SHARDED_STATE_DICT"}},
       fsdp("hybrid_shard auto_wrap", R"({"forward_prefetch": false,
            "backward_prefetch": "NO_PREFETCH", "sync_module_states": false,
            "activation_checkpointing": true, "state_dict_type": "SHARDED_STATE_DICT"})")},
      {{{"FSDP_VERSION", "2"}}, fsdp("full_shard", R"({"version": 2,
            "reshard_after_forward": true})")},
      {{{"FSDP_VERSION", "2"},
        {"FSDP_RESHARD_AFTER_FORWARD", "false"},
        {"ACCELERATE_USE_PARALLELISM_CONFIG", "true"},
        {"PARALLELISM_CONFIG_DP_REPLICATE_SIZE", "1"},
        {"PARALLELISM_CONFIG_DP_SHARD_SIZE", "2"}},
       fsdp("full_shard", R"({"version": 2, "reshard_after_forward": false})")}};
  const LogCapture log;
  std::set<std::string> different;
  for (const auto& [changes, args] : equals) {
    const std::string plan = describe(plan_of({}, fsdp_variables(changes)));
    CHECK(plan == describe(plan_of(args)));
    different.insert(plan);
  }
  CHECK(different.size() == equals.size());
  CHECK(log.messages.empty());  // a launcher's defaults are nothing to warn about
}

TEST_CASE("a launcher's DeepSpeed is the plan of equal arguments") {
  const std::vector<std::pair<Variables, TrainingArguments>> equals = {
      {{}, deepspeed(R"({"zero_optimization": {"stage": 2}})")},
      {{{"ACCELERATE_DEEPSPEED_ZERO_STAGE", "1"}},
       deepspeed(R"({"zero_optimization": {"stage": 1}})")},
      {{{"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu"},
        {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1"},
        {"ACCELERATE_GRADIENT_CLIPPING", "1.0"}},
       deepspeed(R"({"gradient_clipping": 1.0, "zero_optimization": {"stage": 2,
                     "offload_optimizer": {"device": "cpu"}}})")},
      {{{"ACCELERATE_DEEPSPEED_ZERO_STAGE", "3"},
        {"ACCELERATE_DEEPSPEED_ZERO3_INIT", "true"},
        {"ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL", "true"},
        {"ACCELERATE_GRADIENT_CLIPPING", "auto"}},
       deepspeed(R"({"zero_optimization": {"stage": 3,
                     "stage3_gather_16bit_weights_on_model_save": true}})")},
      {{{"ACCELERATE_DEEPSPEED_ZERO_STAGE", "3"}},
       deepspeed(R"({"zero_optimization": {"stage": 3}})")}};
  std::set<std::string> different;
  for (const auto& [changes, args] : equals) {
    const std::string plan = describe(plan_of({}, deepspeed_variables(changes)));
    CHECK(plan == describe(plan_of(args)));
    different.insert(plan);
  }
  CHECK(different.size() == equals.size());
}

TEST_CASE("a launcher's DeepSpeed file is the file given as an argument") {
  const TemporaryFolder folder(memory_folder());
  const std::string path = folder.file("ds.json");
  write_bytes(path, R"({"zero_optimization": {"stage": 3}, "bf16": {"enabled": "auto"}})");
  const Variables variables = {{"ACCELERATE_USE_DEEPSPEED", "true"},
                               {"ACCELERATE_DEEPSPEED_CONFIG_FILE", path},
                               {"ACCELERATE_DEEPSPEED_ZERO3_INIT", "true"}};
  CHECK(describe(plan_of({}, variables)) == describe(plan_of({.deepspeed = path})));

  Variables harmless = variables, doubled = variables;
  harmless["ACCELERATE_CONFIG_DS_FIELDS"] = "deepspeed_config_file,zero3_init_flag";
  CHECK(plan_of({}, harmless).sharded);
  doubled["ACCELERATE_CONFIG_DS_FIELDS"] = "deepspeed_config_file,zero_stage,mixed_precision";
  CHECK(contains_text(refusal(doubled), "must not set zero_stage, mixed_precision; move them to "));
}

TEST_CASE("a launcher that contradicts the arguments is an Error") {
  // The YAML with gradient_clipping 0.7 against max_grad_norm's default.
  const Variables clipped = deepspeed_variables({{"ACCELERATE_GRADIENT_CLIPPING", "0.7"}});
  CHECK(contains_text(refusal(clipped), "ds gradient_clipping=\"0.7\" vs hf max_grad_norm=1"));
  CHECK(refusal(clipped, {.max_grad_norm = 0.7}).empty());
  const Variables accumulated =
      deepspeed_variables({{"ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"}});
  CHECK(contains_text(refusal(accumulated), "ds gradient_accumulation_steps=\"4\" vs hf"));
  CHECK(refusal(accumulated, {.gradient_accumulation_steps = 4}).empty());
  CHECK(contains_text(refusal(fsdp_variables({{"FSDP_ACTIVATION_CHECKPOINTING", "true"}}),
                              {.gradient_checkpointing = true}),
                      "two names of the same"));
  CHECK(contains_text(refusal(fsdp_variables({{"FSDP_SYNC_MODULE_STATES", "false"}})),
                      "[fsdp] the launcher's environment cannot be used:\n- "
                      "cpu_ram_efficient_loading"));
  Variables both = fsdp_variables();
  both.merge(deepspeed_variables());
  CHECK(contains_text(refusal(both), "are both true"));
  CHECK(contains_text(refusal({{"ACCELERATE_USE_FSDP", "maybe"}}), "must be true or false"));
  CHECK(contains_text(
      refusal(deepspeed_variables({{"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "nvme"}})),
      "offloading to disks"));
  CHECK(contains_text(
      refusal(deepspeed_variables({{"ACCELERATE_DEEPSPEED_MOE_LAYER_CLS_NAMES", "Moe"}})),
      "mixtures of experts"));
}

TEST_CASE("arguments come before the launcher") {
  const ShardingPlan own = plan_of({.fsdp = "shard_grad_op"}, fsdp_variables());
  CHECK(describe(own) == describe(plan_of({.fsdp = "shard_grad_op"})));
  CHECK(describe(plan_of(deepspeed(R"({"zero_optimization": {"stage": 1}})"), fsdp_variables())) ==
        describe(plan_of(deepspeed(R"({"zero_optimization": {"stage": 1}})"))));
  // fsdp_config alone replaces keys of the launcher.
  const TrainingArguments config = {
      .fsdp_config = json_of(R"({"fsdp_min_num_params": 2000, "offload_params": true,
                                 "forward_prefetch": true})")};
  CHECK(describe(plan_of(config, fsdp_variables())) ==
        describe(plan_of(
            {.fsdp = "full_shard offload", .fsdp_config = json_of("{\"min_num_params\": 2000}")})));
  CHECK(!plan_of({}, {{"ACCELERATE_USE_FSDP", "false"}, {"FSDP_VERSION", "9"}}).sharded);
}

TEST_CASE("what the launcher says of the arguments themselves") {
  const auto applied = [](TrainingArguments args, const Variables& variables) {
    apply_launch_environment(args, environment_of(variables));
    return args;
  };
  CHECK(applied({}, {{"ACCELERATE_MIXED_PRECISION", "bf16"}}).bf16);
  CHECK(applied({}, {{"ACCELERATE_MIXED_PRECISION", "fp16"}}).fp16);
  CHECK(!applied({.bf16 = true}, {{"ACCELERATE_MIXED_PRECISION", "fp16"}}).fp16);
  CHECK(applied({}, {{"ACCELERATE_USE_CPU", "true"}}).use_cpu);
  CHECK(applied({.use_cpu = true}, {{"ACCELERATE_USE_CPU", "false"}}).use_cpu);
  CHECK(applied({}, {{"ACCELERATE_MIXED_PRECISION", "no"}}).to_json_string() ==
        TrainingArguments().to_json_string());
  CHECK(contains_text(error_of([&] {
                        applied({}, {{"ACCELERATE_MIXED_PRECISION", "fp8"}});
                      }),
                      "ACCELERATE_MIXED_PRECISION must be no, bf16 or fp16; got \"fp8\""));
}

TEST_SUITE_END();
