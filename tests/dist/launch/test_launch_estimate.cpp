// Figures of the literature: 7 billion parameters, AdamW with 16-bit weights and f32 masters.
#include <doctest/doctest.h>

#include <tendril/dist/launch/estimate.h>
#include <tendril/dist/launch/model_size.h>

#include "dist/launch/launch_tools.h"

using namespace tendril;
using namespace tendril::launch;
using namespace tendril::launch::testing;

namespace {

EstimateOptions seven_billion(int64_t ranks) {
  EstimateOptions options;
  options.parameters = 7e9;
  options.precision = precision_from("bf16");
  options.state = optimizer_bytes("adamw", options.precision);
  options.ranks = ranks;
  return options;
}

double gigabytes(const std::string& strategy, int64_t ranks) {
  return estimate(strategy, seven_billion(ranks)).device() / 1e9;
}

}  // namespace

TEST_SUITE("launch_estimate") {
  TEST_CASE("memory of each rank") {
    CHECK(gigabytes("ddp", 8) == doctest::Approx(112.0));
    CHECK(gigabytes("zero1", 8) == doctest::Approx(38.5));
    CHECK(gigabytes("zero2", 8) == doctest::Approx(26.25));
    CHECK(gigabytes("zero3", 8) == doctest::Approx(14.0));
    CHECK(gigabytes("zero1", 64) == doctest::Approx(29.3).epsilon(0.001));
    CHECK(gigabytes("zero2", 64) == doctest::Approx(15.5).epsilon(0.003));
    CHECK(gigabytes("zero3", 64) == doctest::Approx(1.75));
    CHECK(gigabytes("shard_grad_op", 8) == gigabytes("zero2", 8));
    CHECK(gigabytes("no_shard", 8) == gigabytes("ddp", 8));
  }

  TEST_CASE("precision, optimizer, gathered units and offloading") {
    EstimateOptions options = seven_billion(8);
    options.precision = precision_from("fp32");
    options.state = optimizer_bytes("adamw", options.precision);
    CHECK(estimate("ddp", options).device() == 16 * 7e9);
    options.precision = precision_from("bf16_pure");
    options.state = optimizer_bytes("adamw", options.precision);
    CHECK(estimate("ddp", options).device() == 8 * 7e9);
    options = seven_billion(8);
    options.state = optimizer_bytes("adamw_8bit", options.precision);
    CHECK((options.state + options.precision.master) == doctest::Approx(4 + 2.03).epsilon(0.001));
    options = seven_billion(8);
    options.largest_unit = 2e8;
    CHECK(estimate("full_shard", options).gathered == 2 * 2 * 2e8);
    options.precision = precision_from("autocast");
    options.state = optimizer_bytes("adamw", options.precision);
    // 4 P / N masters + 8 P / N moments + 4 P / N gradients
    CHECK(estimate("full_shard", options).device() - estimate("full_shard", options).gathered ==
          doctest::Approx(16 * 7e9 / 8));
    options = seven_billion(8);
    options.offload_optimizer = true;
    const Estimate offloaded = estimate("zero2", options);
    CHECK(offloaded.device() == doctest::Approx(2 * 7e9 + 2 * 7e9 / 8));
    CHECK(offloaded.host == doctest::Approx((12 + 2) * 7e9 / 8));
  }

  TEST_CASE("bytes and time on the wire") {
    EstimateOptions options = seven_billion(8);
    options.link_gbps = 400;
    CHECK(estimate("ddp", options).wire == doctest::Approx(24.5e9));
    CHECK(estimate("zero1", options).wire == doctest::Approx(24.5e9));
    CHECK(estimate("zero2", options).wire == doctest::Approx(24.5e9));
    CHECK(estimate("zero3", options).wire == doctest::Approx(36.75e9));
    CHECK(estimate("ddp", options).seconds == doctest::Approx(0.49));  // 24.5 GB at 50 GB/s
    options.micro_batches = 4;
    CHECK(estimate("ddp", options).wire == doctest::Approx(24.5e9));
    CHECK(estimate("zero2", options).wire == doctest::Approx((4 + 1) * 12.25e9));
    CHECK(estimate("zero3", options).wire == doctest::Approx((8 + 4) * 12.25e9));
  }

  TEST_CASE("several machines") {
    EstimateOptions options = seven_billion(16);
    options.machines = 2;
    options.link_gbps = 400;
    CHECK(estimate("zero3", options).seconds == -1);  // the network's speed is not known
    options.network_gbps = 100;
    CHECK(estimate("ddp", options).seconds == doctest::Approx(2 * 14e9 * 15 / 16 * 8 / 100e9));
    const Estimate hybrid = estimate("hybrid_shard", options);
    CHECK(hybrid.device() == doctest::Approx(14e9));  // as 8 ranks alone
    CHECK(hybrid.wire == doctest::Approx(36.75e9));
    CHECK(hybrid.wire_between == doctest::Approx(2 * 14e9 / 8 * 0.5));
    CHECK(hybrid.seconds == doctest::Approx(36.75 * 8 / 400 + 14.0 * 8 / 100));
    CHECK(
        contains_text(error_of([&] { options.ranks = 15, estimate("ddp", options); }), "multiple"));
    CHECK(contains_text(error_of([&] { estimate("zero4", options); }), "zero3; got zero4"));
  }

  TEST_CASE("parameters counted from a model's config.json") {
    const auto count = [](const std::string& text) {
      return model_size(Json::parse(text, "config.json"), "config.json").parameters;
    };
    CHECK(count(R"({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12,
                    "vocab_size": 50257, "n_positions": 1024})") == 124439808);
    CHECK(count(R"({"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
                    "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000,
                    "tie_word_embeddings": false})") == 6738415616);
    CHECK(count(R"({"model_type": "bert", "hidden_size": 768, "intermediate_size": 3072,
                    "num_hidden_layers": 12, "vocab_size": 30522})") == 109482240);
    CHECK(contains_text(error_of([&] { count(R"({"model_type": "gpt2"})"); }), "has no n_embd"));
    CHECK(contains_text(error_of([&] { count(R"({"model_type": "mamba"})"); }), "give --params"));
  }

  TEST_CASE("the command") {
    const std::string text =
        estimate_command({"--params", "7B", "--num_processes", "8", "--link_gbps", "400"});
    CHECK(contains_text(text, "7000000000 parameters, adamw, bf16: 2 + 2 + 12 bytes each"));
    for (const char* row : {"112.00  0.00  24.50", "38.50  0.00  24.50", "26.25  0.00  24.50",
                            "14.00  0.00  36.75", "490.0\n", "735.0\n"})
      CHECK_MESSAGE(contains_text(text, row), row);
    CHECK(contains_text(estimate_command({"--params=124M", "--strategy", "zero2"}), "zero2"));
    CHECK(contains_text(error_of([] { estimate_command({}); }), "either --params"));
    CHECK(contains_text(error_of([] { estimate_command({"--params", "x"}); }), "must be a number"));
    CHECK(contains_text(error_of([] {
                          estimate_command({"--params=1M", "--optimizer=x"});
                        }),
                        "optimizer must be one of adafactor"));
  }
}
