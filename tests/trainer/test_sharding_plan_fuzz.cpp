// Damaged configurations: each gives a plan or throws tendril::Error. Run it with AddressSanitizer.
#include <doctest/doctest.h>

#include <random>

#include "callback_tools.h"
#include "damage.h"
#include "sharding_plan_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

constexpr int kRounds = 1500;

struct Outcome {
  int plans = 0, refused = 0;
};

template <class Body>
void attempt(Outcome& outcome, const Body& body) {
  try {
    units_of(body());
    ++outcome.plans;
  } catch (const Error&) {
    ++outcome.refused;
  }
}

// Another value in the place of one of an object's members, or of a member's member.
Json with_other_value(const Json& object, std::mt19937_64& random) {
  const std::vector<Json> values = {Json(),
                                    true,
                                    -1,
                                    Json(1e300),
                                    "auto",
                                    "",
                                    "nan",
                                    "\xC3\xA9",
                                    Json::array(),
                                    Json::object(),
                                    int64_t{1} << 62,
                                    Json::Array{"a", 1},
                                    "1,,2, "};
  Json result = object;
  const auto& [key, value] = object.members()[random() % object.members().size()];
  if (value.is_object() && !value.members().empty() && random() % 4)
    result.set(key, with_other_value(value, random));
  else
    result.set(key, values[random() % values.size()]);
  return result;
}

const char* const kFsdp = R"({"version": 1, "sharding_strategy": 1, "auto_wrap_policy": 1,
  "transformer_layer_cls_to_wrap": ["Gpt2Block"], "backward_prefetch": "BACKWARD_PRE",
  "forward_prefetch": true, "limit_all_gathers": true, "use_orig_params": true,
  "sync_module_states": true, "cpu_ram_efficient_loading": true, "offload_params": false,
  "activation_checkpointing": false, "state_dict_type": "FULL_STATE_DICT",
  "ignored_modules": "lm_head", "reshard_after_forward": true, "dp_shard_size": 2})";

const char* const kDeepSpeed = R"({"zero_optimization": {"stage": 3, "overlap_comm": true,
  "offload_optimizer": {"device": "cpu"}, "zero_hpz_partition_size": 1},
  "fp16": {"enabled": "auto", "loss_scale": 0}, "gradient_clipping": 1.0,
  "train_batch_size": 16, "steps_per_print": 10, "communication_data_type": "fp32",
  "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": [0.9, 0.999]}},
  "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": "auto"}}})";

}  // namespace

TEST_SUITE("sharding_plan_fuzz") {
  TEST_CASE("values of other kinds") {
    const LogCapture log;
    std::mt19937_64 random(7);
    Outcome outcome;
    for (int i = 0; i < kRounds; ++i) {
      const Json fsdp = with_other_value(json_of(kFsdp), random);
      attempt(outcome, [&] { return plan_of({.fsdp = "full_shard", .fsdp_config = fsdp}); });
      const Json deepspeed = with_other_value(json_of(kDeepSpeed), random);
      attempt(outcome, [&] { return plan_of({.deepspeed = deepspeed}); });
    }
    CHECK(outcome.plans > kRounds / 20);
    CHECK(outcome.refused > kRounds / 2);
  }

  TEST_CASE("damaged texts and words") {
    const LogCapture log;
    std::mt19937_64 random(8);
    Outcome outcome;
    for (int i = 0; i < kRounds; ++i) {
      const std::string fsdp = damage(kFsdp, random), deepspeed = damage(kDeepSpeed, random);
      attempt(outcome,
              [&] { return plan_of({.fsdp = "full_shard", .fsdp_config = json_of(fsdp)}); });
      attempt(outcome, [&] { return plan_of({.deepspeed = json_of(deepspeed)}); });
      const std::string words = damage("full_shard auto_wrap offload", random);
      attempt(outcome, [&] { return plan_of({.fsdp = words}); });
    }
    CHECK(outcome.refused > 2 * kRounds);
  }

  TEST_CASE("damaged environments") {
    const LogCapture log;
    std::mt19937_64 random(9);
    Outcome outcome;
    const Variables sound = {{"ACCELERATE_USE_FSDP", "true"},
                             {"FSDP_VERSION", "1"},
                             {"FSDP_SHARDING_STRATEGY", "FULL_SHARD"},
                             {"FSDP_MIN_NUM_PARAMS", "2000"},
                             {"FSDP_AUTO_WRAP_POLICY", "SIZE_BASED_WRAP"},
                             {"FSDP_FORWARD_PREFETCH", "true"},
                             {"ACCELERATE_MIXED_PRECISION", "bf16"}};
    for (int i = 0; i < kRounds; ++i) {
      Variables variables = sound;
      auto chosen = std::next(variables.begin(), static_cast<int64_t>(random() % sound.size()));
      chosen->second = damage(chosen->second, random);
      attempt(outcome, [&] { return plan_of({}, variables); });
    }
    CHECK(outcome.plans > 0);
    CHECK(outcome.refused > kRounds / 2);
  }
}
