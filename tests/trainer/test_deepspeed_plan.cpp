// DeepSpeed configurations: stages, what must agree with the arguments, and what is refused.
#include <doctest/doctest.h>

#include "argument_values.h"
#include "callback_tools.h"
#include "sharding_plan_tools.h"

using namespace tendril;
using namespace tendril::testing;
using dist::ShardingStrategy;

namespace {

// {"zero_optimization": {"stage": 2}, more}
std::string with(const std::string& more) {
  return "{\"zero_optimization\": {\"stage\": 2}, " + more + "}";
}

std::string refusal(const std::string& config, const TrainingArguments& args = {}) {
  return error_of([&] { deepspeed_plan_of(config, args); });
}

// As the guide of the Hugging Face Trainer has it, with all that can be "auto".
const char* const kAutomatic = R"({
  "fp16": {"enabled": "auto", "loss_scale": 0, "loss_scale_window": 1000,
           "initial_scale_power": 16, "hysteresis": 2, "min_loss_scale": 1},
  "bf16": {"enabled": "auto"},
  "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto",
                                            "weight_decay": "auto"}},
  "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto",
      "warmup_min_lr": "auto", "warmup_max_lr": "auto", "warmup_num_steps": "auto"}},
  "zero_optimization": {
    "stage": 3,
    "offload_optimizer": {"device": "cpu", "pin_memory": true},
    "offload_param": {"device": "cpu", "pin_memory": true},
    "overlap_comm": true, "contiguous_gradients": true, "sub_group_size": 1e9,
    "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto",
    "stage3_param_persistence_threshold": "auto", "stage3_max_live_parameters": 1e9,
    "stage3_max_reuse_distance": 1e9, "stage3_gather_16bit_weights_on_model_save": true},
  "gradient_accumulation_steps": "auto", "gradient_clipping": "auto",
  "steps_per_print": 2000, "train_batch_size": "auto",
  "train_micro_batch_size_per_gpu": "auto", "wall_clock_breakdown": false})";

}  // namespace

TEST_SUITE_BEGIN("deepspeed_plan");

TEST_CASE("stages") {
  struct Expected {
    ShardingStrategy strategy;
    bool every_batch;
    StateDictType saved;
  };
  const std::vector<Expected> stages = {
      {ShardingStrategy::no_shard, false, StateDictType::full},
      {ShardingStrategy::shard_grad_op, false, StateDictType::full},
      {ShardingStrategy::shard_grad_op, true, StateDictType::full},
      {ShardingStrategy::full_shard, true, StateDictType::sharded}};
  for (size_t stage = 0; stage < stages.size(); ++stage) {
    CAPTURE(stage);
    const ShardingPlan plan =
        deepspeed_plan_of("{\"zero_optimization\": {\"stage\": " + std::to_string(stage) + "}}");
    CHECK(plan.sharded);
    CHECK(plan.options.strategy == stages[stage].strategy);
    CHECK(plan.reduces_every_batch == stages[stage].every_batch);
    CHECK(plan.state_dict_type == stages[stage].saved);
    CHECK(!plan.options.cpu_offload);
    CHECK(units_of(plan) == std::vector<std::string>{"transformer.h.0", "transformer.h.1"});
  }
  CHECK(deepspeed_plan_of("{\"zero_optimization\": {\"stage\": 3, "
                          "\"stage3_gather_16bit_weights_on_model_save\": true}}")
            .state_dict_type == StateDictType::full);
  CHECK(contains_text(refusal("{\"zero_optimization\": {\"stage\": 4}}"),
                      "zero_optimization.stage must be 0, 1, 2 or 3; got 4"));
  CHECK(contains_text(refusal("{\"zero_optimization\": {\"stage\": \"auto\"}}"),
                      "zero_optimization.stage must be an integer of at least 0; got \"auto\""));
  CHECK(contains_text(refusal("{}"), "there is no zero_optimization"));
}

TEST_CASE("offloading, for weights at stage 3 alone") {
  const LogCapture log;
  const auto plan = [](const char* stage, const char* part) {
    return deepspeed_plan_of("{\"zero_optimization\": {\"stage\": " + std::string(stage) + ", \"" +
                             part + "\": {\"device\": \"cpu\"}}}");
  };
  CHECK(plan("1", "offload_optimizer").options.cpu_offload);
  CHECK(plan("3", "offload_param").options.cpu_offload);
  CHECK(log.messages.empty());
  CHECK(!plan("2", "offload_param").options.cpu_offload);
  REQUIRE(log.messages.size() == 1);
  CHECK(contains_text(log.messages[0], "offload_param has no effect at stage 2"));
}

TEST_CASE("\"auto\" everywhere takes everything from the arguments, and knobs are listed once") {
  const LogCapture log;
  const LogLevel before = log_level();
  set_log_level(LogLevel::info);
  const ShardingPlan plan = deepspeed_plan_of(kAutomatic, {.bf16 = true});
  set_log_level(before);
  CHECK(plan.options.strategy == ShardingStrategy::full_shard);
  CHECK(plan.options.cpu_offload);
  CHECK(plan.state_dict_type == StateDictType::full);
  CHECK(plan.options.param_dtype == bf16);
  REQUIRE(log.messages.size() == 1);
  CHECK(contains_text(log.messages[0], "accepted, without effect here: "));
  CHECK(contains_text(log.messages[0], "zero_optimization.overlap_comm"));
  CHECK(contains_text(log.messages[0], "steps_per_print"));
}

TEST_CASE("every value that differs from the arguments is in one Error") {
  const std::string error =
      refusal(with(R"("train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2,
              "train_batch_size": 17, "gradient_clipping": 0.7,
              "fp16": {"enabled": true}, "bf16": {"enabled": false},
              "optimizer": {"type": "Adam", "params": {"lr": 1e-3, "betas": [0.9, 0.95],
                            "eps": 1e-6, "weight_decay": 0.1}},
              "scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": 1e-5,
                            "warmup_max_lr": 1e-3, "warmup_num_steps": 100}})"),
              {.learning_rate = 5e-5, .optim = "sgd", .bf16 = true});
  for (const char* line :
       {"ds train_micro_batch_size_per_gpu=4 vs hf per_device_train_batch_size=8",
        "ds gradient_accumulation_steps=2 vs hf gradient_accumulation_steps=1",
        "ds train_batch_size=17 vs hf processes * per_device_train_batch_size * "
        "gradient_accumulation_steps=16",
        "ds gradient_clipping=0.7 vs hf max_grad_norm=1",
        "ds fp16.enabled=true vs hf fp16|fp16_full_eval=false",
        "ds bf16.enabled=false vs hf bf16|bf16_full_eval=true",
        "ds optimizer.type=Adam vs hf optim=sgd (adamw_torch would be the same)",
        "ds optimizer.params.lr=1e-3 vs hf learning_rate=5e-05",
        "ds optimizer.params.betas=[0.9,0.95] vs hf adam_beta1, adam_beta2=[0.9,0.999]",
        "ds optimizer.params.eps=1e-6 vs hf adam_epsilon=1e-08",
        "ds optimizer.params.weight_decay=0.1 vs hf weight_decay=0",
        "ds scheduler.type=WarmupLR vs hf lr_scheduler_type=linear (constant_with_warmup would",
        "ds scheduler.params.warmup_min_lr=1e-5 vs hf the rate that warm-up starts from=0",
        "ds scheduler.params.warmup_max_lr=1e-3 vs hf learning_rate=5e-05",
        "ds scheduler.params.warmup_num_steps=100 vs hf warmup_steps=0"}) {
    CAPTURE(line);
    CHECK(contains_text(error, std::string("\n- ") + line));
  }
  CHECK(std::count(error.begin(), error.end(), '\n') == 15);
}

TEST_CASE("values that say what the arguments say are fine, however they are written") {
  const ShardingPlan plan =
      deepspeed_plan_of(with(R"("train_micro_batch_size_per_gpu": 8.0, "train_batch_size": 32,
              "gradient_accumulation_steps": "2", "gradient_clipping": 1,
              "fp16": {"enabled": false},
              "optimizer": {"type": "Adam", "params": {"lr": 0.00005, "betas": [0.9, 0.999],
                            "eps": 1e-8, "weight_decay": 0, "torch_adam": true}},
              "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_min_lr": 0,
                            "warmup_max_lr": 5e-5, "warmup_num_steps": 10,
                            "warmup_type": "linear", "total_num_steps": 100}})"),
                        {.max_steps = 100, .gradient_accumulation_steps = 2, .warmup_steps = 0.1});
  CHECK(plan.sharded);
  CHECK(deepspeed_plan_of(
            with(R"("scheduler": {"type": "WarmupLR", "params":
                                  {"warmup_num_steps": 20}})"),
            {.lr_scheduler_type = SchedulerType::constant_with_warmup, .warmup_steps = 20})
            .sharded);
  // A share of steps that only the data know cannot be compared.
  CHECK(contains_text(refusal(with(R"("scheduler": {"type": "WarmupDecayLR", "params":
                                      {"warmup_num_steps": 20}})"),
                              {.warmup_ratio = 0.1}),
                      "warmup_num_steps=20 vs hf warmup_ratio=0.1"));
  CHECK(contains_text(refusal(with(R"("scheduler": {"type": "WarmupLR", "params":
                                      {"warmup_type": "log"}})"),
                              {.lr_scheduler_type = SchedulerType::constant_with_warmup}),
                      "warmup_type=\"log\" vs hf the kind of warm-up=\"linear\""));
}

TEST_CASE("DeepSpeed's Adam is AdamW unless it says otherwise") {
  const char* const plain = R"("optimizer": {"type": "Adam", "params": {"adam_w_mode": false}})";
  CHECK(deepspeed_plan_of(with(plain), {.optim = "adam"}).sharded);
  CHECK(contains_text(refusal(with(plain)), "vs hf optim=adamw_torch (adam would be the same)"));
  CHECK(deepspeed_plan_of(with(R"("optimizer": {"type": "AdamW"})"), {.optim = "adamw_torch_fused"})
            .sharded);
  for (const char* type : {"OneBitAdam", "Lamb", "Lion", ""})
    CHECK(contains_text(refusal(with("\"optimizer\": {\"type\": \"" + std::string(type) + "\"}")),
                        "optimizer.type must be Adam or AdamW; got \"" + std::string(type) +
                            "\"; for others set the argument optim"));
  CHECK(contains_text(refusal(with(R"("scheduler": {"type": "OneCycle"})")),
                      "must be WarmupLR or WarmupDecayLR; got \"OneCycle\""));
}

TEST_CASE("what would change the result, or needs what there is not, is named") {
  const std::vector<std::pair<const char*, const char*>> zero = {
      {"\"zero_quantized_weights\": true", "zero_quantized_weights is true: ZeRO++"},
      {"\"zero_quantized_gradients\": true", "zero_quantized_gradients is true: ZeRO++"},
      {"\"zero_hpz_partition_size\": 8", "zero_hpz_partition_size is 8: ZeRO++"},
      {"\"mics_shard_size\": 4", "mics_shard_size is 4: MiCS"},
      {"\"zenflow\": {\"topk_ratio\": 0.1}", "ZenFlow"},
      {"\"cpu_offload\": true", "use offload_optimizer"},
      {"\"offload_param\": {\"device\": \"nvme\", \"nvme_path\": \"/x\"}",
       "offload_param.device is nvme: offloading to disks"},
      {"\"offload_optimizer\": {\"device\": \"gpu\"}", "device must be none or cpu; got \"gpu\""},
      {"\"offload_optimizer\": \"cpu\"",
       "zero_optimization.offload_optimizer must be an object; got \"cpu\""},
      {"\"overlap_com\": true",
       "there is no key zero_optimization.overlap_com; did you mean "
       "zero_optimization.overlap_comm?"}};
  for (const auto& [key, message] : zero) {
    CAPTURE(key);
    CHECK(contains_text(
        refusal("{\"zero_optimization\": {\"stage\": 3, " + std::string(key) + "}}"), message));
  }
  const std::vector<std::pair<const char*, const char*>> top = {
      {"\"amp\": {\"enabled\": true}", "there is no apex"},
      {"\"moe\": {\"enabled\": true}", "mixtures of experts"},
      {"\"compression_training\": {\"weight_quantization\": {}}", "compression"},
      {"\"fp16\": {\"enabled\": \"auto\", \"loss_scale\": 128}", "fp16.loss_scale is 128"},
      {"\"bf16\": {\"bf16_master_weights_and_grads\": true}", "kept in f32"},
      {"\"data_types\": {\"grad_accum_dtype\": \"bf16\"}", "grad_accum_dtype must be fp32"},
      {"\"communication_data_type\": \"int8\"", "must be one of fp32, bf16, fp16"},
      {"\"gradient_clippin\": 1.0", "did you mean gradient_clipping?"}};
  for (const auto& [key, message] : top) {
    CAPTURE(key);
    CHECK(contains_text(refusal(with(key)), message));
  }
}

TEST_CASE("what is switched off is fine, and gradients travel as asked") {
  CHECK(deepspeed_plan_of(
            R"({"zero_optimization": {"stage": 1, "zero_hpz_partition_size": 1,
                "zero_quantized_weights": false, "mics_shard_size": -1, "cpu_offload": false,
                "offload_optimizer": {"device": "none"}},
                "amp": {"enabled": false}, "elasticity": {"enabled": false}, "pipeline": null,
                "fp16": {"enabled": false, "loss_scale": 0.0},
                "data_types": {"grad_accum_dtype": "fp32"}})")
            .sharded);
  const ShardingPlan plan =
      deepspeed_plan_of(with("\"communication_data_type\": \"fp32\""), {.bf16 = true});
  CHECK(plan.options.param_dtype == bf16);
  CHECK(plan.options.reduce_dtype == f32);
}

TEST_CASE("the configuration may be a file") {
  const TemporaryFolder folder(memory_folder());
  write_bytes(folder.file("ds.json"), kAutomatic);
  write_bytes(folder.file("bad.json"), "{\"zero_optimization\": {\"stage\": 9}}");
  CHECK(plan_of({.deepspeed = folder.file("ds.json")}).options.strategy ==
        ShardingStrategy::full_shard);
  CHECK(error_of([&] {
          plan_of({.deepspeed = folder.file("bad.json")});
        }).starts_with("[deepspeed] " + folder.file("bad.json") + " cannot be used:\n- "));
}

TEST_SUITE_END();
