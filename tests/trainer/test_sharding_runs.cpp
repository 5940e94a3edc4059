// Plans that training runs by: what hybrid groups, offloading, 16 bits and DeepSpeed's keys ask for
// trains like data parallel does.
#include <doctest/doctest.h>

#include <cmath>

#include <tendril/core/ops/copy.h>
#include <tendril/core/threads.h>
#include <tendril/dist/in_process.h>

#include "trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

using Group = std::shared_ptr<dist::ProcessGroup>;

struct Run {
  std::vector<double> losses;
  StateDict weights;
};

// Five steps of the small GPT-2, as the first of `processes` sees them.
Run trained(int processes, const TrainingArguments& changes) {
  const int threads = num_threads();
  set_num_threads(1);
  Run first;
  dist::run_ranks(processes, [&](const Group& group) {
    const TemporaryFolder folder;
    TrainingArguments args = changes;
    args.output_dir = folder.path().string();
    args.use_cpu = true;
    args.disable_tqdm = true;
    args.save_strategy = SaveStrategy::no;
    args.logging_steps = 1;
    args.learning_rate = 1e-2;
    args.max_steps = 5;
    args.per_device_train_batch_size = 2;
    manual_seed(3);
    auto model = std::make_shared<nn::models::Gpt2>(tiny_gpt_config(0.0));
    Run run;
    {
      Trainer trainer(model, args, {.train_dataset = letters(40), .process_group = group});
      silence(trainer);
      trainer.train();
      for (const Json& row : trainer.state().log_history)
        if (const Json* loss = row.find("loss")) run.losses.push_back(loss->as_double());
    }
    run.weights = model->state_dict();
    if (group->rank() == 0) first = std::move(run);
  });
  set_num_threads(threads);
  return first;
}

TrainingArguments fsdp(const char* words, const char* config = "null") {
  return {.fsdp = words, .fsdp_config = Json::parse(config, "test")};
}

TrainingArguments deepspeed(const char* config) {
  return {.deepspeed = Json::parse(config, "test")};
}

}  // namespace

TEST_SUITE("sharding_runs") {
  TEST_CASE("groups of copies, offloading and recomputing train as data parallel does") {
    const Run expected = trained(4, {});
    REQUIRE(expected.losses.size() == 5);
    CHECK(expected.losses.back() < expected.losses.front());
    const std::vector<TrainingArguments> all = {
        fsdp("hybrid_shard auto_wrap"),
        fsdp("full_shard auto_wrap", R"({"version": 2, "dp_replicate_size": 2})"),
        fsdp("shard_grad_op auto_wrap", R"({"dp_shard_size": 2})"),
        fsdp("full_shard auto_wrap offload", R"({"backward_prefetch": "NO_PREFETCH",
             "forward_prefetch": false})"),
        fsdp("full_shard", R"({"min_num_params": 1000, "activation_checkpointing": true})"),
        deepspeed(R"({"zero_optimization": {"stage": 0}})"),
        deepspeed(R"({"zero_optimization": {"stage": 3,
                      "offload_optimizer": {"device": "cpu"}}})")};
    for (size_t i = 0; i < all.size(); ++i) {
      CAPTURE(i);
      const Run run = trained(4, all[i]);
      REQUIRE(run.losses.size() == 5);
      for (size_t step = 0; step < 5; ++step)
        CHECK(run.losses[step] == doctest::Approx(expected.losses[step]).epsilon(1e-6));
    }
  }

  TEST_CASE("16 bits: close to f32, and the trained weights are kept in f32") {
    const Run expected = trained(2, {});
    for (const bool half : {false, true}) {
      CAPTURE(half);
      TrainingArguments args = fsdp("full_shard auto_wrap");
      (half ? args.fp16 : args.bf16) = true;
      const Run run = trained(2, args);
      REQUIRE(run.losses.size() == 5);
      CHECK(run.losses != expected.losses);
      for (size_t step = 0; step < 5; ++step)
        CHECK(run.losses[step] == doctest::Approx(expected.losses[step]).epsilon(0.02));
      const Tensor weight = run.weights.at("transformer.wte.weight");
      REQUIRE(weight.dtype() == f32);
      CHECK(ops::cast(ops::cast(ops::raw(weight), half ? f16 : bf16), f32).to_vector<float>() !=
            weight.to_vector<float>());
    }
  }
}
