// The Trainer over several processes, which are threads here, on GPUs: data parallel and fsdp give
// the losses of one process on the CPU, and runs continue from checkpoints on other devices.
// Without a GPU there is nothing to compare.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include <tendril/core/cuda.h>
#include <tendril/core/threads.h>
#include <tendril/dist/in_process.h>
#include "../cuda_tools.h"
#include "trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

using Group = std::shared_ptr<dist::ProcessGroup>;
using Change = std::function<void(TrainingArguments&)>;

constexpr int64_t kExamples = 6;  // of a step, over all processes

struct OneThreadEach {
  int before = num_threads();
  OneThreadEach() { set_num_threads(1); }
  ~OneThreadEach() { set_num_threads(before); }
};

struct Result {
  Device device;
  std::vector<double> losses, norms;
  double eval_loss = 0.0;
  std::vector<double> weights;
};

Result run_here(const Group& group, const TemporaryFolder& folder, bool on_gpu,
                const Change& change, const Resume& resume) {
  manual_seed(group->rank() > 0 ? 77 : 5);
  nn::models::Gpt2Config config = tiny_gpt_config(0.0);
  config.n_layer = 1;  // an emulated GPU is slow
  config.n_head = 1;
  nn::models::Gpt2 model(config);
  TrainingArguments args = quiet_args(folder);
  args.use_cpu = !on_gpu;
  args.logging_strategy = IntervalStrategy::steps;
  args.logging_steps = 1;
  args.report_to = {"none"};
  args.learning_rate = 1e-2;
  args.max_steps = 10;
  args.per_device_train_batch_size = kExamples / group->size();
  args.per_device_eval_batch_size = 4;
  if (change) change(args);
  Result result;
  {
    Trainer trainer(
        model, args,
        {.train_dataset = letters(60), .eval_dataset = letters(7), .process_group = group});
    silence(trainer);
    trainer.train(resume);
    result.eval_loss = trainer.evaluate().at("eval_loss");
    result.losses = logged(trainer.state(), "loss");
    result.norms = logged(trainer.state(), "grad_norm");
  }
  result.device = model.parameters().front().device();
  for (const auto& [name, tensor] : model.state_dict())
    for (const double value : to(tensor, Device::cpu()).to_vector<double>())
      result.weights.push_back(value);
  return result;
}

// The first process's; all have the same weights, each on its GPU.
Result run(int processes, const TemporaryFolder& folder, bool on_gpu, const Change& change = {},
           const Resume& resume = {}) {
  std::vector<Result> results(static_cast<size_t>(processes));
  dist::run_ranks(processes, [&](const Group& group) {
    results[static_cast<size_t>(group->rank())] = run_here(group, folder, on_gpu, change, resume);
  });
  for (int rank = 0; rank < processes; ++rank) {
    const Result& result = results[static_cast<size_t>(rank)];
    CHECK(result.device == (on_gpu ? Device::cuda(rank % cuda::device_count()) : Device::cpu()));
    CHECK(result.weights == results[0].weights);
  }
  return results[0];
}

Change fsdp(const std::string& words, const char* config = "null") {
  return [words, config](TrainingArguments& args) {
    args.fsdp = words;
    args.fsdp_config = Json::parse(config, "test");
  };
}

}  // namespace

TEST_SUITE("trainer_cuda_distributed") {
  TEST_CASE("data parallel and fsdp on GPUs have the losses of one process on the CPU") {
    if (skipped_without_gpu()) return;
    const OneThreadEach one_thread;
    const TemporaryFolder folder;
    const Result alone = run(1, folder, false);
    CHECK(alone.losses.back() < 0.9 * alone.losses.front());
    const Change accumulating = [](TrainingArguments& args) {
      args.fsdp = "full_shard auto_wrap";
      args.gradient_accumulation_steps = 3;
      args.per_device_train_batch_size = 1;
    };
    for (const Change& change :
         {Change(), fsdp("full_shard auto_wrap"), fsdp("shard_grad_op auto_wrap"), fsdp("no_shard"),
          fsdp("full_shard auto_wrap offload"), accumulating}) {
      const Result gpu = run(2, folder, true, change);
      check_near(gpu.losses, alone.losses, 1e-5);
      check_near(gpu.norms, alone.norms, 1e-3);
      CHECK(gpu.eval_loss == doctest::Approx(alone.eval_loss).epsilon(1e-5));
    }
  }

  TEST_CASE("16 bits on GPUs stay close to f32") {
    if (skipped_without_gpu()) return;
    const OneThreadEach one_thread;
    const TemporaryFolder folder;
    const Result alone = run(1, folder, false);
    for (const bool half : {false, true}) {
      CAPTURE(half);
      const Result gpu = run(2, folder, true, [half](TrainingArguments& args) {
        args.fsdp = "full_shard auto_wrap";
        (half ? args.fp16 : args.bf16) = true;
      });
      CHECK(gpu.losses != alone.losses);
      check_near(gpu.losses, alone.losses, 0.03);
    }
  }

  TEST_CASE("a run of two processes on GPUs continues to the bit, and elsewhere closely") {
    if (skipped_without_gpu()) return;
    const OneThreadEach one_thread;
    const char* const sharded_files = R"({"state_dict_type": "SHARDED_STATE_DICT"})";
    for (const Change& strategy :
         {Change(), fsdp("full_shard auto_wrap"), fsdp("full_shard auto_wrap", sharded_files)}) {
      const TemporaryFolder folder;
      const auto few_steps = [&](TrainingArguments& args) {
        if (strategy) strategy(args);
        args.max_steps = 5;
      };
      const Result whole = run(2, folder, true, [&](TrainingArguments& args) {
        few_steps(args);
        args.save_strategy = SaveStrategy::steps;
        args.save_steps = 3;
      });
      const std::string checkpoint = (folder.path() / "checkpoint-3").string();
      const TemporaryFolder other;
      const Result continued = run(2, other, true, few_steps, checkpoint);
      CHECK(continued.losses == whole.losses);
      CHECK(continued.weights == whole.weights);
      check_near(run(2, other, false, few_steps, checkpoint).losses, whole.losses, 1e-5);
      check_near(run(3, other, true, few_steps, checkpoint).losses, whole.losses, 1e-5);
    }
  }
}
