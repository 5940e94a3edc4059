// The same program with arguments of its own and started by tendril-launch: the same plan.
#include <doctest/doctest.h>

#include <array>
#include <cstdio>
#include <sstream>

#include "sharding_plan_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// What tendril-launch puts into the environment of the first rank.
Variables launched(const std::string& configuration) {
  const TemporaryFolder folder;
  write_bytes(folder.file("launch.json"), configuration);
  const std::string command = std::string(TENDRIL_LAUNCH) +
                              " --dry_run --quiet --launcher processes --config_file " +
                              folder.file("launch.json") + " /bin/true";
  FILE* const output = ::popen(command.c_str(), "r");
  REQUIRE(output);
  std::string text;
  std::array<char, 4096> block{};
  for (size_t got; (got = std::fread(block.data(), 1, block.size(), output)) > 0;)
    text.append(block.data(), got);
  REQUIRE(::pclose(output) == 0);
  Variables variables;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line) && !line.starts_with("# rank 1");)
    if (const size_t equals = line.find('='); equals != std::string::npos)
      variables[line.substr(0, equals)] = line.substr(equals + 1);
  return variables;
}

std::string configuration(const char* type, const char* section, const char* more = "") {
  return "{\"distributed_type\": \"" + std::string(type) + "\", \"num_processes\": 2, " + more +
         "\"" + (std::string(type) == "FSDP" ? "fsdp_config" : "deepspeed_config") +
         "\": " + section + "}";
}

TrainingArguments fsdp(const char* words, const char* config = "null") {
  return {.fsdp = words, .fsdp_config = json_of(config)};
}

TrainingArguments deepspeed(const char* config) { return {.deepspeed = json_of(config)}; }

}  // namespace

TEST_SUITE("launched_plan") {
  TEST_CASE("tendril-launch and arguments make the same plans") {
    TrainingArguments brain = fsdp("full_shard auto_wrap", R"({"forward_prefetch": true})");
    brain.bf16 = true;
    const std::vector<std::pair<std::string, TrainingArguments>> equals = {
        {configuration("FSDP", "{}"), fsdp("full_shard")},
        {configuration("FSDP", R"({"fsdp_sharding_strategy": 1, "fsdp_forward_prefetch": true,
                                   "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                                   "fsdp_transformer_layer_cls_to_wrap": "Gpt2Block"})",
                       "\"mixed_precision\": \"bf16\", "),
         brain},
        {configuration("FSDP", R"({"fsdp_sharding_strategy": "SHARD_GRAD_OP",
                                   "fsdp_auto_wrap_policy": "SIZE_BASED_WRAP",
                                   "fsdp_min_num_params": 2000, "fsdp_offload_params": true,
                                   "fsdp_backward_prefetch": "NO_PREFETCH",
                                   "fsdp_state_dict_type": "SHARDED_STATE_DICT"})"),
         fsdp("shard_grad_op offload", R"({"min_num_params": 2000,
              "backward_prefetch": "NO_PREFETCH", "state_dict_type": "SHARDED_STATE_DICT"})")},
        {configuration("FSDP", R"({"fsdp_version": 2, "fsdp_reshard_after_forward": false})"),
         fsdp("full_shard", R"({"version": 2, "reshard_after_forward": false})")},
        {configuration("DEEPSPEED", R"({"zero_stage": 1, "gradient_clipping": 1.0})"),
         deepspeed(R"({"zero_optimization": {"stage": 1}})")},
        {configuration("DEEPSPEED", R"({"zero_stage": 3, "offload_param_device": "cpu",
                                        "zero3_save_16bit_model": true})"),
         deepspeed(R"({"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"},
                       "stage3_gather_16bit_weights_on_model_save": true}})")}};
    for (const auto& [text, args] : equals) {
      CAPTURE(text);
      const std::string plan = describe(plan_of({}, launched(text)));
      CHECK(plan != "not sharded");
      CHECK(plan == describe(plan_of(args)));
    }
  }

  TEST_CASE("a clipping of its own contradicts max_grad_norm") {
    const Variables variables =
        launched(configuration("DEEPSPEED", R"({"gradient_clipping": 0.7})"));
    CHECK(contains_text(error_of([&] { plan_of({}, variables); }),
                        "ds gradient_clipping=\"0.7\" vs hf max_grad_norm=1"));
    CHECK(plan_of({.max_grad_norm = 0.7}, variables).sharded);
  }
}
