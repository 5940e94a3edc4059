// The average of weights: its formula, evaluation at it, and checkpoints.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include <tendril/core/creation.h>
#include <tendril/core/safetensors.h>
#include <tendril/trainer/callbacks/ema.h>
#include <tendril/trainer/checkpoint/checkpoint_folder.h>
#include "test_tools.h"
#include "trainer/callback_tools.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// The values of a after each step, and their average by the formula.
struct Follow : TrainerCallback {
  double decay, average;
  std::vector<double> values;
  Follow(double decay, double start) : decay(decay), average(start) {}
  void on_step_end(CallbackContext& c) override {
    values.push_back(c.model->parameters()[0].item<double>());
    average += (1.0 - decay) * (values.back() - average);
  }
};

TrainingArguments few_steps(const TemporaryFolder& folder, int64_t steps) {
  TrainingArguments args = quiet_args(folder);
  args.max_steps = steps;
  args.per_device_train_batch_size = 2;
  args.learning_rate = 0.05;
  return args;
}

double first_average(const EmaCallback& ema) { return ema.averages().at("a").item<double>(); }

}  // namespace

TEST_SUITE("ema") {
  TEST_CASE("the average follows the weights, and training does not notice") {
    const TemporaryFolder folder;
    Regression model(0.5), plain(0.5);
    {
      Trainer trainer(model, few_steps(folder, 12), {.train_dataset = line_data(8)});
      silence(trainer);
      auto& follow = trainer.add_callback<Follow>(0.9, 0.5);
      auto& ema = trainer.add_callback<EmaCallback>(EmaOptions{.decay = 0.9});
      trainer.train();
      CHECK(ema.updates() == 12);
      CHECK(first_average(ema) == doctest::Approx(follow.average).epsilon(1e-12));
      CHECK(std::abs(first_average(ema) - follow.values.back()) > 1e-3);
      ema.copy_to(plain);
      CHECK(plain.a.item<double>() == first_average(ema));
    }
    Regression alone(0.5);
    Trainer trainer(alone, few_steps(folder, 12), {.train_dataset = line_data(8)});
    silence(trainer);
    trainer.train();
    CHECK(all_weights(alone) == all_weights(model));
  }

  TEST_CASE("warm-up: the first averages are mostly the new weights") {
    const TemporaryFolder folder;
    Regression model(0.5);
    Trainer trainer(model, few_steps(folder, 2), {.train_dataset = line_data(8)});
    silence(trainer);
    auto& follow = trainer.add_callback<Follow>(0.0, 0.5);
    auto& ema = trainer.add_callback<EmaCallback>(EmaOptions{.decay = 0.999, .warmup = true});
    trainer.train();
    const double first = 0.5 + 0.9 * (follow.values[0] - 0.5);
    const double second = first + (1.0 - 2.0 / 11.0) * (follow.values[1] - first);
    CHECK(first_average(ema) == doctest::Approx(second).epsilon(1e-12));
  }

  TEST_CASE("a step that is left out does not count") {
    const TemporaryFolder folder;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    std::vector<Example> examples;
    for (const double label : {1.0, nan, nan, 2.0})
      examples.push_back({{"x", ones({1}, f64)}, {"labels", Tensor::from<double>({label}, {1})}});
    TrainingArguments args = few_steps(folder, 4);
    args.per_device_train_batch_size = 1;
    args.nonfinite_policy = NonfinitePolicy::skip;
    Regression model(0.5);
    const LogCapture quiet;
    Trainer trainer(model, args,
                    {.train_dataset = std::make_shared<InMemoryDataset>(std::move(examples))});
    silence(trainer);
    auto& ema = trainer.add_callback<EmaCallback>();
    trainer.train();
    CHECK(ema.updates() == 2);
    CHECK(std::isfinite(first_average(ema)));
  }

  TEST_CASE("evaluation is at the average, and the weights come back") {
    for (const bool evaluate : {true, false}) {
      CAPTURE(evaluate);
      const TemporaryFolder folder;
      TrainingArguments args = few_steps(folder, 10);
      args.eval_strategy = IntervalStrategy::steps;
      args.eval_steps = 5;
      Regression model(0.5), other;
      Trainer trainer(model, args, {.train_dataset = line_data(8), .eval_dataset = line_data(6)});
      silence(trainer);
      auto& ema = trainer.add_callback<EmaCallback>(EmaOptions{.decay = 0.9, .evaluate = evaluate});
      trainer.train();
      const std::vector<double> weights = all_weights(model);
      if (evaluate)
        ema.copy_to(other);
      else
        other.load_state_dict(model.state_dict());
      double expected = 0.0;  // mean of (a x + b - 2 x - 1)^2 over x = 0, .1, ... .5
      for (int i = 0; i < 6; ++i)
        expected +=
            std::pow((other.a.item<double>() - 2.0) * i / 10.0 + other.b.item<double>() - 1.0,
                     2.0) /
            6.0;
      CHECK(trainer.evaluate().at("eval_loss") == doctest::Approx(expected).epsilon(1e-9));
      CHECK(logged(trainer.state(), "eval_loss")[1] == doctest::Approx(expected).epsilon(1e-9));
      CHECK(all_weights(model) == weights);
    }
  }

  TEST_CASE("the weights come back from an evaluation that fails, too") {
    const TemporaryFolder folder;
    Regression model(0.5);
    Trainer trainer(model, few_steps(folder, 3),
                    {.train_dataset = line_data(8),
                     .eval_dataset = line_data(6),
                     .compute_metrics = [](const EvalPrediction&) -> Metrics {
                       throw Error("no metrics today");
                     }});
    silence(trainer);
    trainer.add_callback<EmaCallback>(EmaOptions{.decay = 0.9});
    trainer.train();
    const std::vector<double> weights = all_weights(model);
    CHECK_THROWS_AS(trainer.evaluate(), Error);
    CHECK(all_weights(model) == weights);
  }

  TEST_CASE("a resumed run has the same averages and evaluations, to the bit") {
    const auto run = [](const TemporaryFolder& folder, const Resume& resume, bool background,
                        bool restore) {
      TrainingArguments args = quiet_args(folder);
      args.max_steps = 5;
      args.per_device_train_batch_size = 2;
      args.learning_rate = 1e-2;
      args.bf16 = true;
      args.save_strategy = SaveStrategy::steps;
      args.save_steps = 3;
      args.eval_strategy = IntervalStrategy::steps;
      args.eval_steps = 4;
      args.save_in_background = background;
      args.restore_callback_states_from_checkpoint = restore;
      manual_seed(7);
      nn::models::Gpt2 model(tiny_gpt_config());
      Trainer trainer(model, args, {.train_dataset = letters(13), .eval_dataset = letters(3)});
      silence(trainer);
      auto& ema = trainer.add_callback<EmaCallback>(EmaOptions{.decay = 0.8, .warmup = true});
      trainer.train(resume);
      std::vector<double> result = all_weights(model);
      for (const auto& [name, tensor] : ema.averages())
        for (const double value : tensor.to_vector<double>()) result.push_back(value);
      for (const double value : logged(trainer.state(), "eval_loss")) result.push_back(value);
      result.push_back(static_cast<double>(ema.updates()));
      return result;
    };
    for (const bool background : {false, true}) {
      const TemporaryFolder whole, again, without;
      const std::vector<double> expected = run(whole, {}, background, true);
      const std::string checkpoint = whole.file("checkpoint-3");
      CHECK(load_safetensors(checkpoint + "/callbacks.safetensors").size() ==
            load_safetensors(checkpoint + "/model.safetensors").size());
      check_checkpoint(checkpoint);  // the manifest knows the file
      CHECK(run(again, checkpoint, background, true) == expected);
      const LogCapture log;
      CHECK(run(without, checkpoint, background, false) != expected);
      int warnings = 0;
      for (const std::string& message : log.messages) warnings += contains(message, "[ema]");
      CHECK(warnings == 1);
    }
  }

  TEST_CASE("averages of bf16 weights are f32, and frozen ones have none") {
    const TemporaryFolder folder;
    nn::models::Gpt2 model(tiny_gpt_config());
    model.to(bf16);
    Tensor table = model.named_parameters()[0].tensor;
    table.requires_grad_(false);
    TrainingArguments args = few_steps(folder, 2);
    Trainer trainer(model, args, {.train_dataset = letters(5), .eval_dataset = letters(2)});
    silence(trainer);
    auto& ema = trainer.add_callback<EmaCallback>();
    trainer.train();
    CHECK(ema.averages().size() == model.named_parameters().size() - 1);
    for (const auto& [name, tensor] : ema.averages()) CHECK(tensor.dtype() == f32);
    CHECK(std::isfinite(trainer.evaluate().at("eval_loss")));
    CHECK(model.named_parameters()[1].tensor.dtype() == bf16);
  }

  TEST_CASE("what does not fit is refused") {
    CHECK(contains(message_of([] { EmaCallback({.decay = 1.0}); }), "[0, 1)"));
    CHECK(contains(message_of([] { EmaCallback({.decay = -0.1}); }), "[0, 1)"));
    Regression model;
    HandDriven around;
    EmaCallback ema;
    const auto begin_with = [&](const StateDict& saved) {
      ema.load_tensors(saved);
      CallbackContext c = around.context();
      c.model = &model;
      return message_of([&] { ema.on_train_begin(c); });
    };
    const Tensor one = ones({1}, f64);
    CHECK(begin_with({{"a", one}, {"b", one}}) == "");
    CHECK(contains(begin_with({{"a", one}}), "1 averages, but 2 parameters"));
    CHECK(contains(begin_with({{"a", one}, {"c", one}}), "no average of \"b\""));
    CHECK(contains(begin_with({{"a", one}, {"b", ones({2}, f64)}}), "shape"));
    nn::models::Gpt2 other(tiny_gpt_config());
    CHECK(contains(message_of([&] { ema.copy_to(other); }), "other parameters"));
  }

  TEST_CASE("two callbacks of one class keep their tensors apart") {
    const LogCapture quiet;
    HandDriven around;
    Regression model(3.0);
    for (int i = 0; i < 2; ++i) around.handler.add(std::make_shared<EmaCallback>());
    CallbackContext c = around.context();
    c.model = &model;
    around.handler.call(&TrainerCallback::on_train_begin, c);
    StateDict state = around.handler.tensors();
    CHECK(state.size() == 4);
    state["EmaCallback.1.a"] = full({1}, 7.0, f64);
    around.handler.load_tensors(state);
    around.handler.call(&TrainerCallback::on_train_begin, c);
    CHECK(around.handler.tensors().at("EmaCallback.0.a").item<double>() == 3.0);
    CHECK(around.handler.tensors().at("EmaCallback.1.a").item<double>() == 7.0);
  }
}
