// fsdp and fsdp_config: what each key asks for, and what is refused.
#include <doctest/doctest.h>

#include <tendril/nn/linear.h>
#include <tendril/nn/module_list.h>

#include "argument_values.h"
#include "callback_tools.h"
#include "sharding_plan_tools.h"

using namespace tendril;
using namespace tendril::testing;
using dist::ShardingStrategy;

namespace {

const std::vector<std::string> kBlocks = {"transformer.h.0", "transformer.h.1"};

// The Error for an fsdp_config.
std::string refusal(const std::string& config, const std::string& fsdp = "full_shard",
                    TrainingArguments args = {}) {
  args.fsdp = fsdp;
  args.fsdp_config = json_of(config);
  return error_of([&] { plan_of(args); });
}

struct Block : nn::Module {
  nn::Linear up{2, 2};
  nn::ModuleList<nn::Linear> experts;
  Block() {
    add("up", up);
    add("experts", experts);
    for (int i = 0; i < 2; ++i) experts.emplace_back(2, 2);
  }
};

// Two blocks with lists of their own, and a list of a single module.
struct Stack : nn::Module {
  nn::ModuleList<Block> blocks;
  nn::ModuleList<nn::Linear> heads;
  Stack() {
    add("blocks", blocks);
    add("heads", heads);
    for (int i = 0; i < 2; ++i) blocks.emplace_back();
    heads.emplace_back(2, 2);
  }
};

}  // namespace

TEST_SUITE_BEGIN("sharding_plan");

TEST_CASE("without fsdp, deepspeed and a launcher nothing is sharded") {
  const ShardingPlan plan = plan_of({});
  CHECK(!plan.sharded);
  CHECK(!plan.reduces_every_batch);
  CHECK(plan.state_dict_type == StateDictType::full);
  CHECK(!plan_of({.fsdp = "false"}).sharded);
  CHECK(!plan_of({.fsdp = "0"}).sharded);
}

TEST_CASE("the words of fsdp") {
  struct Expected {
    const char* words;
    ShardingStrategy strategy;
    bool every_batch, offload;
    size_t units;
  };
  for (const Expected& expected :
       {Expected{"full_shard", ShardingStrategy::full_shard, true, false, 0},
        Expected{"true", ShardingStrategy::full_shard, true, false, 0},
        Expected{"1", ShardingStrategy::full_shard, true, false, 0},
        Expected{"auto_wrap", ShardingStrategy::full_shard, true, false, 2},
        Expected{"full_shard auto_wrap", ShardingStrategy::full_shard, true, false, 2},
        Expected{"SHARD_GRAD_OP, auto_wrap", ShardingStrategy::shard_grad_op, true, false, 2},
        Expected{"no_shard", ShardingStrategy::no_shard, false, false, 0},
        Expected{"offload hybrid_shard", ShardingStrategy::hybrid_shard, true, true, 0},
        Expected{"hybrid_shard_zero2", ShardingStrategy::hybrid_shard_zero2, true, false, 0}}) {
    CAPTURE(expected.words);
    const ShardingPlan plan = fsdp_plan_of(expected.words);
    CHECK(plan.sharded);
    CHECK(plan.options.strategy == expected.strategy);
    CHECK(plan.reduces_every_batch == expected.every_batch);
    CHECK(plan.options.cpu_offload == expected.offload);
    CHECK(units_of(plan).size() == expected.units);
    CHECK(plan.options.sync_module_states);
    CHECK(plan.state_dict_type == StateDictType::full);
  }
  CHECK(contains_text(refusal("{}", "offload"), "offload, but not what is sharded"));
  CHECK(contains_text(refusal("{}", "full_shard shard_grad_op"), "two strategies"));
  CHECK(contains_text(refusal("{}", "full_shrad"), "got \"full_shrad\"; did you mean full_shard?"));
}

TEST_CASE("each key of fsdp_config changes what it is about, with or without fsdp_ before it") {
  const std::string usual = describe(fsdp_plan_of("full_shard"));
  struct Expected {
    const char *key, *value, *was, *is;
  };
  const std::vector<Expected> all = {
      {"sharding_strategy", "1", "FULL_SHARD;", "FULL_SHARD;"},
      {"backward_prefetch", "\"backward_post\"", "prefetch 111", "prefetch 121"},
      {"backward_prefetch", "\"NO_PREFETCH\"", "prefetch 111", "prefetch 101"},
      {"backward_prefetch_policy", "\"BACKWARD_POST\"", "prefetch 111", "prefetch 121"},
      {"forward_prefetch", "false", "prefetch 111", "prefetch 011"},
      {"forward_prefetch", "\"False\"", "prefetch 111", "prefetch 011"},
      {"limit_all_gathers", "false", "prefetch 111", "prefetch 110"},
      {"offload_params", "true", "offload 0", "offload 1"},
      {"sync_module_states", "false", "sync 1", "sync 0"},
      {"cpu_ram_efficient_loading", "true", "sync 1", "sync 1"},
      {"use_orig_params", "true", "", ""},
      {"ignored_modules", "\".*(wte|ln_.{1,2})\"", "ignored ", "ignored .*(wte|ln_.{1,2}) "},
      {"ignored_modules", "[\"lm_head\"]", "ignored ", "ignored lm_head "},
      {"state_dict_type", "\"SHARDED_STATE_DICT\"", "saved full", "saved sharded"},
      {"state_dict_type", "\"LOCAL_STATE_DICT\"", "saved full", "saved sharded"},
      {"state_dict_type", "\"FULL_STATE_DICT\"", "saved full", "saved full"},
      {"activation_checkpointing", "true", "recompute 0", "recompute 1"},
      {"xla", "false", "", ""},
      {"version", "1", "", ""},
      {"transformer_layer_cls_to_wrap", "[\"Gpt2Block\"]", "units ",
       "units transformer.h.0 transformer.h.1 "}};
  const LogCapture log;
  for (const Expected& expected : all)
    for (const std::string prefix : {"", "fsdp_"}) {
      CAPTURE(expected.key);
      std::string changed = usual;
      const std::string was = expected.was;
      changed.replace(changed.find(was), was.size(), expected.is);
      const std::string config = "{\"" + prefix + expected.key + "\":" + expected.value + "}";
      CHECK(describe(fsdp_plan_of("full_shard", config)) == changed);
    }
}

TEST_CASE("what is wrong is named, all of it in one Error") {
  const std::vector<std::pair<const char*, const char*>> wrong = {
      {"{\"min_num_params\": 100, \"transformer_layer_cls_to_wrap\": \"Gpt2Block\"}",
       "min_num_params and transformer_layer_cls_to_wrap are two ways to wrap"},
      {"{\"sync_module_states\": false, \"cpu_ram_efficient_loading\": true}",
       "cpu_ram_efficient_loading has the first process read the weights"},
      {"{\"sharding_strategy\": \"SHARD_GRAD_OP\"}",
       "sharding_strategy is SHARD_GRAD_OP, but fsdp says FULL_SHARD"},
      {"{\"sharding_strategy\": 6}", "sharding_strategy must be one of FULL_SHARD, "},
      {"{\"fsdp_version\": 3}", "version must be 1 or 2; got 3"},
      {"{\"auto_wrap_policy\": \"SIZE_BASED_WRAP\"}", "needs min_num_params above 0"},
      {"{\"min_num_params\": -1}", "min_num_params must be an integer of at least 0; got -1"},
      {"{\"limit_all_gathers\": 2}", "limit_all_gathers must be true or false; got 2"},
      {"{\"version\": 1, \"fsdp_version\": 1}", "version is set twice"},
      {"{\"xla\": true}", "xla is for TPUs"},
      {"{\"ignored_modules\": [1]}", "ignored_modules must be a text, or a list of texts"},
      {"{\"forward_prefech\": true}",
       "there is no key forward_prefech; did you mean forward_prefetch?"},
      {"{\"dp_replicate_size\": 3}",
       "dp_replicate_size 3 times dp_shard_size 1 is not the 2 processes there are"}};
  for (const auto& [config, message] : wrong) {
    CAPTURE(config);
    const std::string error = refusal(config);
    CHECK(error.starts_with("[fsdp] fsdp_config cannot be used:\n- "));
    CHECK(contains_text(error, message));
  }
  const std::string both = refusal("{\"frward_prefetch\": true, \"sync_module_states\": 7}");
  CHECK(contains_text(both, "\n- sync_module_states must be true or false; got 7"));
  CHECK(contains_text(both, "\n- there is no key frward_prefetch"));
  CHECK(contains_text(refusal("{\"activation_checkpointing\": true}", "full_shard",
                              {.gradient_checkpointing = true}),
                      "two names of the same"));
  CHECK(contains_text(refusal("{\"offload_params\": false}", "full_shard offload"),
                      "offload_params is false, but fsdp says offload"));
  CHECK(contains_text(error_of([] { plan_of({.fsdp = "true", .deepspeed = json_of("{}")}); }),
                      "fsdp and deepspeed are two ways to shard"));
}

TEST_CASE("version 2: reshard_after_forward takes the place of the strategy") {
  const LogCapture log;
  const auto strategy = [](const char* fsdp, const char* config) {
    return fsdp_plan_of(fsdp, config).options.strategy;
  };
  CHECK(strategy("full_shard", "{\"version\": 2, \"reshard_after_forward\": true}") ==
        ShardingStrategy::full_shard);
  CHECK(strategy("full_shard", "{\"version\": 2, \"reshard_after_forward\": false}") ==
        ShardingStrategy::shard_grad_op);
  CHECK(strategy("hybrid_shard", "{\"version\": 2, \"reshard_after_forward\": \"false\"}") ==
        ShardingStrategy::hybrid_shard_zero2);
  CHECK(strategy("shard_grad_op", "{\"version\": 2}") == ShardingStrategy::shard_grad_op);
  CHECK(fsdp_plan_of("true", "{\"version\": 2}").state_dict_type == StateDictType::sharded);
  CHECK(log.messages.empty());

  // In version 1 it is a warning, as are version 1's keys in version 2.
  CHECK(strategy("full_shard", "{\"reshard_after_forward\": false}") ==
        ShardingStrategy::full_shard);
  REQUIRE(log.messages.size() == 1);
  CHECK(contains_text(log.messages[0], "reshard_after_forward has no effect"));
  const ShardingPlan plan = fsdp_plan_of(
      "full_shard",
      "{\"version\": 2, \"backward_prefetch\": \"NO_PREFETCH\", \"sync_module_states\": false, "
      "\"use_orig_params\": false}");
  CHECK(plan.options.backward_prefetch == dist::BackwardPrefetch::pre);
  CHECK(plan.options.sync_module_states);
  CHECK(log.messages.size() == 4);

  CHECK(contains_text(refusal("{\"version\": 2, \"forward_prefetch\": true}"),
                      "forward_prefetch belongs to version 1"));
  CHECK(contains_text(refusal("{\"version\": 2, \"state_dict_type\": \"LOCAL_STATE_DICT\"}"),
                      "LOCAL_STATE_DICT belongs to version 1"));
  CHECK(contains_text(refusal("{\"version\": 2, \"reshard_after_forward\": true}", "shard_grad_op"),
                      "reshard_after_forward is true, which contradicts SHARD_GRAD_OP"));
}

TEST_CASE("copies times ranks that share one are all processes") {
  const auto plan = [](const char* fsdp, const char* config) {
    return fsdp_plan_of(fsdp, config, 8);
  };
  const ShardingPlan hybrid = plan("full_shard", "{\"dp_replicate_size\": 2}");
  CHECK(hybrid.options.strategy == ShardingStrategy::hybrid_shard);
  CHECK(hybrid.shard_group_size == 4);
  CHECK(hybrid.is_hybrid());
  const ShardingPlan zero2 = plan("shard_grad_op", "{\"dp_shard_size\": 2}");
  CHECK(zero2.options.strategy == ShardingStrategy::hybrid_shard_zero2);
  CHECK(zero2.shard_group_size == 2);
  CHECK(plan("full_shard", "{\"dp_shard_size\": 8}").options.strategy ==
        ShardingStrategy::full_shard);
  const ShardingPlan copies = plan("full_shard", "{\"dp_replicate_size\": 8}");
  CHECK(copies.options.strategy == ShardingStrategy::no_shard);
  CHECK(!copies.reduces_every_batch);
  CHECK(contains_text(error_of([&] { plan("full_shard", "{\"dp_shard_size\": 3}"); }),
                      "is not the 8 processes there are"));
}

TEST_CASE("what auto_wrap wraps") {
  CHECK(units_of(fsdp_plan_of("full_shard")).empty());
  CHECK(units_of(fsdp_plan_of("full_shard auto_wrap")) == kBlocks);
  CHECK(units_of(fsdp_plan_of("full_shard auto_wrap",
                              "{\"transformer_layer_cls_to_wrap\": \"LayerNorm\"}"))
            .size() == 5);
  CHECK(units_of(fsdp_plan_of("full_shard",
                              "{\"auto_wrap_policy\": \"transformer_based_wrap\"}")) == kBlocks);
  CHECK(units_of(fsdp_plan_of("full_shard auto_wrap", "{\"auto_wrap_policy\": \"NO_WRAP\"}"))
            .empty());
  // A block of the small model has 12 C^2 + 13 C = 3280 parameters, its MLP 2128.
  const auto by_size = [](const char* size) {
    return units_of(
        fsdp_plan_of("full_shard auto_wrap", "{\"min_num_params\": " + std::string(size) + "}"));
  };
  std::vector<std::string> sizes = by_size("3000");
  CHECK(std::find(sizes.begin(), sizes.end(), "transformer.h.0") != sizes.end());
  sizes = by_size("2000");
  CHECK(std::find(sizes.begin(), sizes.end(), "transformer.h.0.mlp") != sizes.end());
  CHECK(by_size("0") == kBlocks);
  CHECK(contains_text(error_of([] {
                        units_of(fsdp_plan_of(
                            "true", "{\"transformer_layer_cls_to_wrap\": \"BertLayer\"}"));
                      }),
                      "no module of class \"BertLayer\""));
}

TEST_CASE("blocks that repeat in a list, but not what repeats within them") {
  Stack stack;
  const Environment nothing = environment_of({});
  const ShardingPlan plan = make_sharding_plan({.fsdp = "full_shard auto_wrap"}, stack, 2, nothing);
  CHECK(plan.options.wrap(stack) == std::vector<std::string>{"blocks.0", "blocks.1"});
  // Where nothing repeats: one unit, and a warning.
  const LogCapture log;
  Regression line;
  CHECK(!make_sharding_plan({.fsdp = "full_shard auto_wrap"}, line, 2, nothing).options.wrap);
  REQUIRE(log.messages.size() == 1);
  CHECK(contains_text(log.messages[0], "no class repeats in a ModuleList"));
}

TEST_CASE("bf16 and fp16 set the dtypes of gathered weights and of gradients on the wire") {
  const dist::FullyShardedOptions none = fsdp_plan_of("true").options;
  CHECK((!none.param_dtype && !none.reduce_dtype && !none.buffer_dtype));
  const dist::FullyShardedOptions brain = plan_of({.bf16 = true, .fsdp = "true"}).options;
  CHECK((brain.param_dtype == bf16 && brain.reduce_dtype == bf16 && brain.buffer_dtype == bf16));
  const dist::FullyShardedOptions half = plan_of({.fp16 = true, .fsdp = "true"}).options;
  CHECK((half.param_dtype == f16 && half.reduce_dtype == f32 && !half.buffer_dtype));
}

TEST_CASE("fsdp_config from a file, JSON or YAML, means the same") {
  const TemporaryFolder folder(memory_folder());
  write_bytes(folder.file("fsdp.json"),
              "{\"version\": 1, \"offload_params\": true, \"min_num_params\": 2000,\n"
              " \"ignored_modules\": [\"lm_head\"], \"backward_prefetch\": null}");
  write_bytes(folder.file("fsdp.yaml"),
              "fsdp_version: 1\nfsdp_offload_params: true\nfsdp_min_num_params: 2e3\n"
              "ignored_modules: [lm_head]\nbackward_prefetch: null\n");
  const ShardingPlan expected = fsdp_plan_of(
      "true",
      "{\"offload_params\": true, \"min_num_params\": 2000, \"ignored_modules\": \"lm_head\"}");
  CHECK(describe(plan_of({.fsdp = "true", .fsdp_config = folder.file("fsdp.json")})) ==
        describe(expected));
  if (has_yaml())
    CHECK(describe(plan_of({.fsdp = "true", .fsdp_config = folder.file("fsdp.yaml")})) ==
          describe(expected));
  CHECK(contains_text(
      error_of([&] { plan_of({.fsdp = "true", .fsdp_config = folder.file("no.json")}); }),
      "no.json"));
  const LogCapture log;
  CHECK(!plan_of({.fsdp_config = json_of("{\"offload_params\": true}")}).sharded);
  REQUIRE(log.messages.size() == 1);
  CHECK(contains_text(log.messages[0], "fsdp_config has no effect"));
}

TEST_SUITE_END();
