// The Trainer on a GPU beside itself on the CPU: every `optim` by name, noise on embeddings,
// averages, loss scaling and clipping.
#include <doctest/doctest.h>
#include <tendril/core/creation.h>
#include <tendril/optim/clip.h>
#include <tendril/optim/grad_scaler.h>
#include <tendril/optim/sgd.h>
#include <tendril/trainer/callbacks/ema.h>
#include <tendril/trainer/optimizer_choice.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "cuda_tools.h"
#include "golden_values.h"
#include "op_harness.h"
#include "test_tools.h"
#include "trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

const Device kGpu = Device::cuda();

TrainingArguments args_for(const TemporaryFolder& folder, const std::string& optim,
                           bool on_the_cpu) {
  TrainingArguments args = quiet_args(folder);
  args.use_cpu = on_the_cpu;
  args.optim = optim;
  args.max_steps = gpu_is_emulated() ? 3 : 5;  // it takes a while under sanitizers
  args.per_device_train_batch_size = 4;
  args.learning_rate = 0.01;
  args.logging_strategy = IntervalStrategy::steps;
  args.logging_steps = 1;
  if (optim.starts_with("galore") || optim.starts_with("apollo")) {
    args.optim_target_modules = {"attn", "mlp"};
    args.optim_args = std::string("rank=4, update_proj_gap=") + (gpu_is_emulated() ? "2" : "3");
  }
  if (optim.find("8bit") != std::string::npos)
    args.optim_args =
        args.optim_args.value_or("") + (args.optim_args ? ", " : "") + "min_8bit_size=64";
  if (optim.ends_with("_layerwise") || optim.ends_with("lomo")) args.max_grad_norm = 0.0;
  return args;
}

// The loss of each step; the averages of the weights go to `averages`.
std::vector<double> losses(const TrainingArguments& args, std::vector<double>* averages = nullptr) {
  manual_seed(3);
  nn::models::Gpt2 model(tiny_gpt_config(/*dropout=*/0.0));
  Trainer trainer(model, args, {.train_dataset = letters(20)});
  silence(trainer);
  auto& ema = trainer.add_callback<EmaCallback>(EmaOptions{.decay = 0.5});
  trainer.train();
  CHECK(model.parameters().front().device().is_cpu() == args.use_cpu);
  if (averages)
    for (const auto& [name, tensor] : ema.averages())
      for (const double value : tensor.to_vector<double>()) averages->push_back(value);
  return logged(trainer.state(), "loss");
}

double farthest(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double distance = std::abs(a[i] - b[i]);
    if (std::isnan(distance)) return INFINITY;
    worst = std::max(worst, distance);
  }
  return worst;
}

void check_alike(const std::string& optim) {
  check_on_gpu(optim, [&] {
    const TemporaryFolder folder;
    const TrainingArguments args = args_for(folder, optim, /*on_the_cpu=*/false);
    const std::vector<double> gpu = losses(args);
    const std::vector<double> cpu = losses(args_for(folder, optim, /*on_the_cpu=*/true));
    CHECK(static_cast<int64_t>(gpu.size()) == args.max_steps);
    CHECK(farthest(gpu, cpu) <= 1e-3);
  });
}

}  // namespace

TEST_SUITE("cuda_trainer") {
  TEST_CASE("every optim trains on a GPU as on the CPU") {
    if (skipped_without_gpu()) return;
    for (const std::string& optim : optimizer_names()) check_alike(optim);
  }

  TEST_CASE("and during backward") {
    if (skipped_without_gpu()) return;
    for (const std::string& optim : optimizer_names())
      if (!optim.ends_with("lomo")) check_alike(optim + "_layerwise");
  }

  TEST_CASE("the rate matters to the losses that are compared") {
    if (skipped_without_gpu()) return;
    const TemporaryFolder folder;
    TrainingArguments args = args_for(folder, "adamw_torch", /*on_the_cpu=*/false);
    const std::vector<double> some = losses(args);
    args.learning_rate *= 1.2;
    CHECK(farthest(losses(args), some) > 1e-3);
  }

  TEST_CASE("NEFTune's noise on a GPU is the CPU's") {
    if (skipped_without_gpu()) return;
    const TemporaryFolder folder;
    std::vector<double> trained[2];
    for (const bool on_the_cpu : {false, true}) {
      TrainingArguments args = args_for(folder, "adamw_torch", on_the_cpu);
      args.neftune_noise_alpha = 15.0;
      trained[on_the_cpu] = losses(args);
      args.neftune_noise_alpha.reset();
      CHECK(farthest(losses(args), trained[on_the_cpu]) > 1e-3);
    }
    CHECK(farthest(trained[0], trained[1]) <= 1e-3);

    // With a length of its own for each token, in f32 and in bf16.
    const Tensor tokens = Tensor::from<int64_t>({1, 2, 3, 4, 5, 6}, {2, 3});
    const Tensor lengths = Tensor::from<int64_t>({2, 2, 0, 3, 3, 3}, {2, 3});
    for (const DType dtype : {f32, bf16}) {
      Tensor results[2];
      for (const bool on_the_cpu : {false, true}) {
        const Device device = on_the_cpu ? Device::cpu() : kGpu;
        manual_seed(5);
        nn::Embedding table(10, 32, {.std = 0.02, .dtype = dtype});
        table.to(device);
        table.set_noise_alpha(5.0);
        table.set_noise_lengths(lengths);
        results[on_the_cpu] = table(to(tokens, device)).detach();
      }
      CHECK(golden_deviation(results[0], results[1]) <= (dtype == f32 ? 1e-6 : 0x1p-7));
    }
  }

  TEST_CASE("averages of weights on a GPU") {
    if (skipped_without_gpu()) return;
    const TemporaryFolder folder;
    std::vector<double> averages[2];
    for (const bool on_the_cpu : {false, true})
      losses(args_for(folder, "sgd", on_the_cpu), &averages[on_the_cpu]);
    CHECK(farthest(averages[0], averages[1]) <= 1e-5);
  }

  TEST_CASE("a loss scaler on a GPU leaves out a step that overflows, and no other") {
    if (skipped_without_gpu()) return;
    Tensor p = to(Tensor::from<float>({1.0f, 1.0f}, {2}), kGpu).requires_grad_();
    Tensor q = to(Tensor::from<float>({2.0f}, {1}), kGpu).requires_grad_();
    optim::Sgd optimizer({NamedTensor{"p", p}, NamedTensor{"q", q}}, {.lr = 1.0});
    optim::GradScaler scaler({.init_scale = 1024.0});
    const auto step = [&](float first) {
      p.set_grad(to(Tensor::from<float>({first, 4096.0f}, {2}), kGpu));
      q.set_grad(to(Tensor::from<float>({1024.0f}, {1}), kGpu));
      const bool updated = scaler.step(optimizer);
      scaler.update();
      return updated;
    };
    for (const float bad : {INFINITY, std::nanf("")}) CHECK_FALSE(step(bad));
    CHECK(p.to_vector<float>() == std::vector<float>{1.0f, 1.0f});
    CHECK(scaler.scale() == 256.0);
    CHECK(step(512.0f));
    CHECK(p.to_vector<float>() == std::vector<float>{-1.0f, -15.0f});
    CHECK(q.to_vector<float>() == std::vector<float>{-2.0f});
  }

  TEST_CASE("the loss scaler of fp16 costs no wait beyond those for loss and norm") {
    if (skipped_without_gpu()) return;
    struct Waits : TrainerCallback {
      std::vector<int64_t> counts;
      void on_step_end(CallbackContext&) override {
        counts.push_back(cuda::synchronization_count());
      }
    };
    std::vector<int64_t> waits[2];
    for (const bool in_f16 : {false, true}) {
      const TemporaryFolder folder;
      TrainingArguments args = args_for(folder, "adamw_torch", /*on_the_cpu=*/false);
      args.logging_strategy = IntervalStrategy::no;
      args.max_steps = 5;
      args.fp16 = in_f16;
      args.bf16 = !in_f16;
      manual_seed(3);
      nn::models::Gpt2 model(tiny_gpt_config(/*dropout=*/0.0));
      Trainer trainer(model, args, {.train_dataset = letters(20)});
      silence(trainer);
      auto& callback = trainer.add_callback<Waits>();
      trainer.train();
      REQUIRE(callback.counts.size() == 5);
      for (size_t i = 1; i < 5; ++i)
        waits[in_f16].push_back(callback.counts[i] - callback.counts[i - 1]);
    }
    CHECK(waits[0].front() > 0);
    CHECK(waits[0] == waits[1]);
  }

  TEST_CASE("clipping on a GPU, by norm and by value") {
    if (skipped_without_gpu()) return;
    std::vector<Tensor> parameters;
    for (const DType dtype : {f32, bf16}) {
      parameters.push_back(zeros({2, 2}, dtype, kGpu).requires_grad_());
      parameters.back().set_grad(
          to(to(Tensor::from<float>({3.0f, 0.0f, -4.0f, 12.0f}, {2, 2}), dtype), kGpu));
    }
    const double norm = optim::grad_norm(parameters);
    CHECK(norm == doctest::Approx(13.0 * std::sqrt(2.0)).epsilon(1e-12));
    CHECK(optim::grad_norm(parameters, std::numeric_limits<double>::infinity()) == 12.0);
    CHECK(optim::clip_grad_norm(parameters, norm / 2.0) == norm);
    CHECK(parameters[0].grad().to_vector<float>()[3] == doctest::Approx(6.0).epsilon(1e-6));
    CHECK(parameters[1].grad().to_vector<float>()[2] == doctest::Approx(-2.0).epsilon(0x1p-8));
    optim::clip_grad_value(parameters, 1.75);
    CHECK(parameters[1].grad().to_vector<float>() == std::vector<float>{1.5f, 0.0f, -1.75f, 1.75f});
  }
}
