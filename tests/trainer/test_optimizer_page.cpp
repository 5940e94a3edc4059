// The programs in docs/optimizers.md are parts of this file, where they compile and run.
#include <doctest/doctest.h>
#include <tendril/tendril.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;
namespace fs = std::filesystem;

namespace {

const fs::path kRoot = TENDRIL_SOURCE_DIR;
constexpr int64_t steps = 3;

struct Setting {
  nn::models::Gpt2 model{tiny_gpt_config(0.0)};
  Tensor tokens = Tensor::from<int64_t>({1, 2, 3, 4, 5, 6}, {2, 3});
  Tensor targets = Tensor::from<int64_t>({2, 3, 4, 5, 6, -100}, {2, 3});
  Tensor mask = Tensor::from<int64_t>({1, 1, 1, 1, 1, 0}, {2, 3});
  double loss() { return model.loss(tokens, targets).item<double>(); }
};

struct ClipValues : TrainerCallback {
  void on_pre_optimizer_step(CallbackContext& context) override {
    optim::clip_grad_value(context.model->parameters(), 0.5);
  }
};

// Without the spaces at the beginning of each line.
std::string unindented(std::istream& file) {
  std::string text;
  for (std::string line; std::getline(file, line);) {
    const size_t start = line.find_first_not_of(' ');
    text += (start == std::string::npos ? "" : line.substr(start)) + "\n";
  }
  return text;
}

}  // namespace

TEST_SUITE("optimizer_page") {
  TEST_CASE("a loop") {
    Setting setting;
    auto& [model, tokens, targets, mask] = setting;
    const double before = setting.loss();
    const optim::DecaySplit split = optim::split_for_decay(model.named_parameters());
    optim::AdamW optimizer;
    optimizer.add_param_group(split.decayed, {.lr = 3e-4, .weight_decay = 0.1});
    optimizer.add_param_group(split.kept, {.lr = 3e-4, .weight_decay = 0.0});
    for (int64_t step = 0; step < steps; ++step) {
      optimizer.scale_lr(optim::cosine(step, {.warmup = 10, .total = steps}));
      optimizer.zero_grad();
      model.loss(tokens, targets).backward();
      optim::clip_grad_norm(model.parameters(), 1.0);
      optimizer.step();
    }
    CHECK(setting.loss() < before);
  }

  TEST_CASE("updates during backward") {
    Setting setting;
    auto& [model, tokens, targets, mask] = setting;
    const double before = setting.loss();
    optim::AdaLomo optimizer(model.named_parameters(), {.lr = 1e-3});
    for (int64_t step = 0; step < steps; ++step) model.loss(tokens, targets).backward();
    CHECK(setting.loss() < before);
    CHECK_FALSE(model.parameters().front().grad().defined());
  }

  TEST_CASE("noise") {
    Setting setting;
    auto& [model, tokens, targets, mask] = setting;
    const double before = setting.loss();
    model.input_embedding()->set_noise_alpha(5.0);
    const NoiseLengths lengths(model, {{"input_ids", tokens}, {"attention_mask", mask}});
    model.loss(tokens, targets).backward();
    CHECK(setting.loss() != before);
  }

  TEST_CASE("callbacks") {
    const TemporaryFolder folder;
    TrainingArguments args = quiet_args(folder);
    args.max_steps = 2;
    args.optim = "sgd";
    args.max_grad_norm = 0.0;
    args.learning_rate = 1.0;
    args.lr_scheduler_type = SchedulerType::constant;
    Regression model(0.0, 0.0);
    Trainer trainer(model, args, {.train_dataset = line_data(10)});
    silence(trainer);
    trainer.add_callback<ClipValues>();
    auto& ema = trainer.add_callback<EmaCallback>(EmaOptions{.decay = 0.9});
    trainer.train();
    ema.copy_to(model);
    // Both slopes are steeper than 0.5 at first, so weights go 0, 0.5, 1.0 and the average 0, 0.05,
    // 0.145.
    CHECK(model.b.item<double>() == doctest::Approx(0.145).epsilon(1e-6));
  }

  TEST_CASE("the page shows what is compiled here, and its links lead somewhere") {
    std::ifstream page(kRoot / "docs" / "optimizers.md"), source(__FILE__);
    REQUIRE(page.is_open());
    if (!source.is_open()) source.open(kRoot / "tests" / "trainer" / "test_optimizer_page.cpp");
    const std::string text = unindented(page), compiled = unindented(source), fence = "```cpp\n";
    int programs = 0;
    for (size_t at = text.find(fence); at != std::string::npos; at = text.find(fence, at + 1)) {
      const size_t start = at + fence.size();
      const std::string program = text.substr(start, text.find("```", start) - start);
      CAPTURE(program);
      CHECK(compiled.find(program) != std::string::npos);
      ++programs;
    }
    CHECK(programs == 5);
    int links = 0;
    for (size_t at = text.find("](../"); at != std::string::npos; at = text.find("](../", at + 1)) {
      const size_t start = at + 2;
      const std::string target = text.substr(start, text.find(')', start) - start);
      CAPTURE(target);
      CHECK(fs::exists(kRoot / "docs" / target));
      ++links;
    }
    CHECK(links > 4);
  }
}
