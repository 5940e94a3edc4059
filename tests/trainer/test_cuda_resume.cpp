// Checkpoints of a Trainer on a GPU: the run that was resumed is the run that never stopped, and a
// run may change device. Without a GPU there is nothing to compare.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include <tendril/core/cuda.h>
#include <tendril/trainer/checkpoint/checkpoint_folder.h>
#include "cuda_tools.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

using Modify = std::function<void(TrainingArguments&)>;

struct Outcome {
  Device device = Device::cpu();
  std::vector<double> weights, optimizer, losses, eval_losses;
};

Outcome run(const TemporaryFolder& folder, bool use_cpu, const Resume& resume = {},
            const Modify& modify = {}) {
  TrainingArguments args = eventful_args(folder);
  args.use_cpu = use_cpu;
  args.logging_steps = 1;
  args.save_steps = 3;
  if (modify) modify(args);
  manual_seed(7);
  nn::models::Gpt2 model(tiny_gpt_config());
  Trainer trainer(model, args, {.train_dataset = letters(13), .eval_dataset = letters(3)});
  silence(trainer);
  trainer.train(resume);
  Outcome outcome;
  outcome.device = model.parameters().front().device();
  for (const auto& [name, tensor] : model.state_dict())
    for (const double value : tensor.to_vector<double>()) outcome.weights.push_back(value);
  for (const auto& [name, tensor] : trainer.optimizer()->state_dict())
    for (const double value : tensor.to_vector<double>()) outcome.optimizer.push_back(value);
  outcome.losses = logged(trainer.state(), "loss");
  outcome.eval_losses = logged(trainer.state(), "eval_loss");
  return outcome;
}

std::string checkpoint_of(const TemporaryFolder& folder, int64_t step) {
  for (const CheckpointPath& checkpoint : list_checkpoints(folder.path()))
    if (checkpoint.step == step) return checkpoint.folder.string();
  FAIL("there is no checkpoint of step ", step);
  return {};
}

}  // namespace

TEST_SUITE("cuda_resume") {
  TEST_CASE("a Trainer takes the GPU, and its losses are the CPU's") {
    if (skipped_without_gpu()) return;
    const TemporaryFolder there, here;
    const Outcome gpu = run(there, false), cpu = run(here, true);
    CHECK(gpu.device == Device::cuda(0));
    CHECK(cpu.device == Device::cpu());
    check_near(gpu.losses, cpu.losses, 1e-3);
    check_near(gpu.eval_losses, cpu.eval_losses, 1e-3);
  }

  TEST_CASE("a resumed run is the run that never stopped, to the bit") {
    if (skipped_without_gpu()) return;
    for (const Modify& modify :
         {Modify(), Modify([](TrainingArguments& args) { args.bf16 = true; }),
          Modify([](TrainingArguments& args) { args.fp16 = true; }),
          Modify([](TrainingArguments& args) { args.neftune_noise_alpha = 5.0; }),
          Modify([](TrainingArguments& args) { args.gradient_checkpointing = true; })}) {
      const TemporaryFolder whole, again;
      const Outcome expected = run(whole, false, {}, modify);
      const Outcome resumed = run(again, false, checkpoint_of(whole, 3), modify);
      CHECK(resumed.weights == expected.weights);
      CHECK(resumed.optimizer == expected.optimizer);
      CHECK(resumed.losses == expected.losses);
      CHECK(resumed.eval_losses == expected.eval_losses);
    }
  }

  TEST_CASE("a run that began on one device goes on on the other") {
    if (skipped_without_gpu()) return;
    for (const bool begins_on_cpu : {false, true}) {
      CAPTURE(begins_on_cpu);
      const TemporaryFolder whole, rest;
      const Outcome expected = run(whole, begins_on_cpu);
      const Outcome moved = run(rest, !begins_on_cpu, checkpoint_of(whole, 3));
      CHECK(moved.device == (begins_on_cpu ? Device::cuda(0) : Device::cpu()));
      check_near(moved.losses, expected.losses, 1e-3);
    }
  }
}
