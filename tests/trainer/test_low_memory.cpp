// The Trainer with optimizers that project, and with those that update during backward.
#include <doctest/doctest.h>
#include <tendril/core/creation.h>
#include <tendril/core/log.h>
#include <tendril/optim/layerwise.h>
#include <tendril/trainer/optimizer_choice.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "test_tools.h"
#include "trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

TrainingArguments args_for(const TemporaryFolder& folder, const std::string& optim) {
  TrainingArguments args = quiet_args(folder);
  args.optim = optim;
  args.max_steps = 6;
  args.per_device_train_batch_size = 2;
  args.learning_rate = 0.01;
  args.max_grad_norm = 0.0;
  if (optim.starts_with("galore") || optim.starts_with("apollo")) {
    args.optim_target_modules = {"attn", "mlp"};
    args.optim_args = "rank=4, update_proj_gap=3";
  }
  if (optim.starts_with("galore_adamw_8bit")) *args.optim_args += ", min_8bit_size=64";
  return args;
}

// The weights after a training of the small GPT-2; what is logged goes to `log`.
std::vector<double> trained_weights(const TrainingArguments& args, std::string* log = nullptr,
                                    const std::string& resume_from = "") {
  if (log) set_log_sink([log](LogLevel, const std::string& text) { *log += text + "\n"; });
  manual_seed(3);
  auto model = std::make_shared<nn::models::Gpt2>(tiny_gpt_config());
  Trainer trainer(model, args, {.train_dataset = letters(20)});
  silence(trainer);
  trainer.train(resume_from.empty() ? Resume() : Resume(resume_from));
  set_log_sink({});
  return all_weights(*model);
}

std::string refusal(const TrainingArguments& args) {
  const std::string message = message_of([&] { trained_weights(args); });
  set_log_sink({});
  return message;
}

}  // namespace

TEST_SUITE("trainer_low_memory") {
  TEST_CASE("layer-wise training gives the bits of training by step") {
    for (const char* optim :
         {"galore_adamw", "galore_adamw_8bit", "galore_adafactor", "apollo_adamw", "adamw_torch"}) {
      const TemporaryFolder folder;
      TrainingArguments args = args_for(folder, optim);
      args.weight_decay = 0.01;
      const std::vector<double> by_step = trained_weights(args);
      args.optim += "_layerwise";
      CHECK(trained_weights(args) == by_step);
      args.gradient_checkpointing = true;
      CHECK(trained_weights(args) == by_step);
    }
  }

  TEST_CASE("a resumed run ends with the same bits") {
    const std::vector<std::pair<const char*, const char*>> variants = {
        {"galore_adamw",
         "rank=4, update_proj_gap=3, staggered=true, randomized=true, oversampling=2"},
        {"galore_adamw_layerwise", nullptr},
        {"galore_adamw_8bit", nullptr},
        {"galore_adamw_8bit_layerwise", nullptr},
        {"galore_adafactor", nullptr},
        {"apollo_adamw", nullptr},
        {"apollo_adamw", "rank=1, update_proj_gap=3, scale_type=tensor, scale=128"},
        {"apollo_adamw", "rank=4, update_proj_gap=3, proj=svd"},
        {"apollo_adamw_layerwise", nullptr},
        {"lomo", nullptr},
        {"adalomo", nullptr}};
    for (const auto& [optim, options] : variants) {
      CAPTURE(std::string(optim));
      const TemporaryFolder folder(memory_folder());
      TrainingArguments args = args_for(folder, optim);
      if (options) args.optim_args = options;
      args.save_strategy = SaveStrategy::steps;
      args.save_steps = 4;
      const std::vector<double> whole = trained_weights(args);
      const std::string checkpoint = (folder.path() / "checkpoint-4").string();
      CHECK(trained_weights(args, nullptr, checkpoint) == whole);
    }
  }

  TEST_CASE("the loss falls") {
    const std::vector<std::pair<std::string, double>> rates = {
        {"lomo", 0.5},          {"adalomo", 0.2},
        {"galore_adamw", 0.02}, {"galore_adamw_8bit_layerwise", 0.02},
        {"apollo_adamw", 0.02}, {"apollo_adamw_layerwise", 0.02}};
    for (const auto& [optim, rate] : rates) {
      CAPTURE(optim);
      const TemporaryFolder folder;
      TrainingArguments args = args_for(folder, optim);
      args.max_steps = 40;
      args.learning_rate = rate;
      args.logging_strategy = IntervalStrategy::steps;
      args.logging_steps = 10;
      manual_seed(3);
      auto model = std::make_shared<nn::models::Gpt2>(tiny_gpt_config(0.0));
      Trainer trainer(model, args, {.train_dataset = letters(20)});
      silence(trainer);
      trainer.train();
      const std::vector<double> losses = logged(trainer.state(), "loss");
      CHECK(losses.back() < losses.front() - 0.2);
      // Gradients that are freed at once leave no norm to log.
      const bool frees = trainer.optimizer()->updates_in_backward();
      CHECK(frees == (optim != "galore_adamw" && optim != "apollo_adamw"));
      if (frees) CHECK(logged(trainer.state(), "grad_norm").empty());
    }
  }

  TEST_CASE("clipping in two passes is clipping") {
    const TemporaryFolder folder;
    TrainingArguments args = args_for(folder, "sgd");
    args.learning_rate = 0.2;
    args.max_grad_norm = 0.5;
    const std::vector<double> by_step = trained_weights(args);
    args.max_grad_norm = 0.0;
    CHECK(trained_weights(args) != by_step);
    args.optim = "sgd_layerwise";
    args.optim_args = "clip_in_two_passes=true";
    args.max_grad_norm = 0.5;
    std::string log;
    const std::vector<double> fused = trained_weights(args, &log);
    REQUIRE(fused.size() == by_step.size());
    double worst = 0.0;  // the norms' last bits may differ
    for (size_t i = 0; i < fused.size(); ++i)
      worst = std::max(worst, std::abs(fused[i] - by_step[i]));
    CHECK(worst <= 1e-6);
    CHECK(log == "");
  }

  TEST_CASE("what cannot be is refused, with the way out") {
    const TemporaryFolder folder;
    TrainingArguments args = args_for(folder, "lomo");
    args.gradient_accumulation_steps = 2;
    std::string message = refusal(args);
    CHECK(contains(message, "optim lomo updates each parameter during backward"));
    CHECK(contains(message, "gradient_accumulation_steps 2"));
    CHECK(contains(message, "per_device_train_batch_size"));
    args = args_for(folder, "galore_adamw_layerwise");
    args.fp16 = true;
    message = refusal(args);
    CHECK(contains(message, "loss scaler"));
    CHECK(contains(message, "use bf16"));
    for (const char* optim :
         {"galore_adamw", "galore_adamw_8bit", "apollo_adamw", "apollo_adamw_layerwise"}) {
      args = args_for(folder, optim);
      args.optim_target_modules = {};
      CHECK(contains(refusal(args), "needs optim_target_modules"));
    }
    args = args_for(folder, "apollo_adamw");
    args.optim_args = "proj=qr";
    CHECK(contains(refusal(args), "random, svd"));
    args.optim_args = "scale_type=row";
    CHECK(contains(refusal(args), "channel, tensor"));
    args.optim_args = "staggered=true";
    CHECK(contains(refusal(args), "it takes beta1, beta2, eps, rank"));
    args = args_for(folder, "galore_adamw");
    args.optim_target_modules = {"conv"};
    CHECK(contains(refusal(args), "the model has transformer.h.0.attn.c_attn"));
    args.optim_target_modules = {"attn"};
    args.optim_args = "proj_type=middle";
    CHECK(contains(refusal(args), "reverse_std"));
    args = args_for(folder, "sgd");
    args.optim_args = "clip_in_two_passes=true";
    CHECK(contains(refusal(args), "does not know the option clip_in_two_passes"));
    args = args_for(folder, "moon_layerwise");
    CHECK(contains(refusal(args), "unknown optim \"moon_layerwise\""));
  }

  TEST_CASE("max_grad_norm without effect is said once") {
    const TemporaryFolder folder;
    TrainingArguments args = args_for(folder, "lomo");
    const std::vector<double> plain = trained_weights(args);
    args.max_grad_norm = 1e-6;
    std::string log;
    CHECK(trained_weights(args, &log) == plain);
    CHECK(contains(log, "max_grad_norm 1e-06 has no effect"));
    CHECK(log.find("has no effect") == log.rfind("has no effect"));
  }

  TEST_CASE("a loss that is not finite updates nothing") {
    for (const NonfinitePolicy policy : {NonfinitePolicy::stop, NonfinitePolicy::skip}) {
      const TemporaryFolder folder;
      TrainingArguments args = args_for(folder, "lomo");
      args.nonfinite_policy = policy;
      args.max_steps = 1;
      const auto model = std::make_shared<Regression>(1.0, 2.0);
      std::vector<Example> examples = {
          {{"x", Tensor::from<double>({std::numeric_limits<double>::infinity()}, {1})},
           {"labels", Tensor::from<double>({1.0}, {1})}}};
      Trainer trainer(model, args,
                      {.train_dataset = std::make_shared<InMemoryDataset>(std::move(examples))});
      silence(trainer);
      set_log_sink([](LogLevel, const std::string&) {});
      const std::string message = message_of([&] { trainer.train(); });
      set_log_sink({});
      CHECK(contains(message, "the loss is not finite") == (policy == NonfinitePolicy::stop));
      CHECK(all_weights(*model) == std::vector<double>{1.0, 2.0});
    }
  }

  TEST_CASE("GaLore's groups: decayed and not, whole and projected") {
    nn::models::Gpt2 model(tiny_gpt_config());
    TrainingArguments args;
    args.optim = "galore_adamw";
    args.optim_args = "rank=3, proj_type=left, scale=0.5";
    ParameterGroups groups;
    for (const NamedTensor& entry : model.named_parameters())
      (entry.tensor.rank() == 2 ? groups.decayed : groups.kept).push_back(entry);
    for (const NamedTensor& entry : groups.decayed)
      if (entry.name.ends_with("c_fc.weight")) groups.targets.push_back(entry);
    REQUIRE(groups.targets.size() == 2);
    const auto optimizer = make_optimizer(args, groups);
    CHECK(optimizer->group_count() == 4);
    CHECK(optimizer->parameters().size() == model.named_parameters().size());
    for (Tensor parameter : model.parameters())
      parameter.set_grad(randn(parameter.shape(), f32, RandomKey{.seed = 1}));
    optimizer->step();
    const StateDict state = optimizer->state_dict();
    // c_fc.weight is (in, out) = (16, 64).
    CHECK(state.at("transformer.h.0.mlp.c_fc.weight.left_basis").shape() == Shape{16, 3});
    CHECK(state.at("transformer.h.0.mlp.c_fc.weight.exp_avg").shape() == Shape{3, 64});
    CHECK(state.at("transformer.h.0.mlp.c_proj.weight.exp_avg").shape() == Shape{64, 16});
    CHECK(!state.contains("transformer.h.0.mlp.c_proj.weight.left_basis"));
  }

  TEST_CASE("APOLLO's options arrive under Hugging Face's names") {
    nn::models::Gpt2 model(tiny_gpt_config());
    TrainingArguments args;
    args.optim = "apollo_adamw";
    args.optim_target_modules = {"mlp"};
    const auto step = [&](const char* options) {
      args.optim_args = options;
      const auto optimizer =
          make_optimizer(args, parameter_groups(model, {"transformer.h.0.mlp.c_fc.weight"}, args));
      CHECK(optimizer->group_count() == 4);
      for (Tensor p : optimizer->parameters())
        p.set_grad(randn(p.shape(), f32, RandomKey{.seed = 1}));
      optimizer->step();
      return optimizer->state_dict();
    };
    // c_fc.weight is (in, out) = (16, 64).
    const std::string weight = "transformer.h.0.mlp.c_fc.weight";
    StateDict state = step("rank=3");
    CHECK(state.at(weight + ".exp_avg").shape() == Shape{3, 64});
    CHECK_FALSE(state.contains(weight + ".left_basis"));
    CHECK(state.at("transformer.h.0.attn.c_attn.weight.exp_avg").shape() == Shape{16, 48});
    state = step("rank=3, proj=svd, proj_type=reverse_std");
    CHECK(state.at(weight + ".exp_avg").shape() == Shape{16, 3});
    CHECK(state.at(weight + ".right_basis").shape() == Shape{3, 64});
    // The norm that the limiter remembers has the root of scale in it when that is in front.
    const auto norm = [&](const char* options) {
      return step(options).at(weight + ".scaled_norm").item<double>();
    };
    const double plain = norm("rank=3");
    CHECK(norm("rank=3, scale=16") == plain);
    CHECK(norm("rank=3, scale=16, scale_front=true") == doctest::Approx(4.0 * plain));
    CHECK(norm("rank=3, scale_type=tensor") != plain);
    CHECK(norm("rank=3, disable_nl=true") == plain);  // nothing to grow from yet
  }
}
