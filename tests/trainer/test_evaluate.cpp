// evaluate() and predict(): what they compute, what they pass on and what they leave alone.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include <tendril/autograd/tape.h>
#include <tendril/trainer/data/collator.h>
#include "trainer/callback_tools.h"
#include "trainer/line_fit.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;
using doctest::Approx;

namespace {

// Batches of 2, and a row of the log for every evaluation.
TrainingArguments pairs(const TemporaryFolder& folder) {
  TrainingArguments args = quiet_args(folder);
  args.per_device_eval_batch_size = 2;
  return args;
}

// A trainer of a line that evaluates five examples, which is three batches.
struct Five {
  TemporaryFolder folder;
  TrainingArguments args = pairs(folder);
  Regression model{0.5, 0.25};
  std::shared_ptr<EventRecorder> recorder = std::make_shared<EventRecorder>();
  std::unique_ptr<Trainer> trainer;

  Trainer& make(TrainerOptions options = {}) {
    if (options.eval_dataset.empty()) options.eval_dataset = line_data(5);
    options.callbacks.push_back(recorder);
    trainer = std::make_unique<Trainer>(model, args, std::move(options));
    silence(*trainer);
    recorder->events.clear();
    return *trainer;
  }
};

std::vector<std::string> names_of(const Metrics& metrics) {
  std::vector<std::string> names;
  for (const auto& [name, value] : metrics) names.push_back(name);
  return names;
}

// Sequences of unequal length whose predictions are the tokens plus a half.
struct Echo : nn::Module {
  Tensor half = add_parameter("half", Tensor::from<double>({0.5}, {1}));
  ModelOutput forward(const Batch& batch) {
    return {{}, {{"logits", tendril::to(column(batch, "input_ids"), f64) + half}}};
  }
};

std::shared_ptr<const Dataset> unequal_sequences() {
  std::vector<Example> examples;
  for (const std::vector<int64_t>& tokens :
       {std::vector<int64_t>{1}, {2, 3}, {4, 5, 6, 7}, {8}, {9, 10}}) {
    const auto length = std::ssize(tokens);
    examples.push_back({{"input_ids", Tensor::from(tokens, {length})},
                        {"labels", Tensor::from(tokens, {length})}});
  }
  return std::make_shared<InMemoryDataset>(std::move(examples));
}

// Twelve windows for the tiny model, of which example i counts only the last 8 - i % 8 labels.
std::shared_ptr<const Dataset> uneven_text() {
  std::vector<Example> examples;
  for (int64_t i = 0; i < 12; ++i) {
    std::vector<int64_t> tokens, labels;
    for (int64_t t = 0; t < 8; ++t) {
      tokens.push_back((5 * i + t * t) % 16);
      labels.push_back(t < i % 8 ? -100 : tokens.back());
    }
    examples.push_back(
        {{"input_ids", Tensor::from(tokens, {8})}, {"labels", Tensor::from(labels, {8})}});
  }
  return std::make_shared<InMemoryDataset>(std::move(examples));
}

}  // namespace

TEST_SUITE("trainer_evaluate") {
  TEST_CASE("the loss is a mean over examples where the model does not count labels") {
    Five five;
    Trainer& trainer = five.make();
    const Metrics metrics = trainer.evaluate();
    // A mean over the three batches' means would weigh the fifth example twice.
    CHECK(metrics.at("eval_loss") == Approx(line_loss({0.5, 0.25}, 0, 5).loss).epsilon(1e-12));
    CHECK(names_of(metrics) == std::vector<std::string>{"eval_loss", "eval_runtime",
                                                        "eval_samples_per_second",
                                                        "eval_steps_per_second"});
    CHECK(five.recorder->events ==
          std::vector<std::string>{"on_prediction_step", "on_prediction_step", "on_prediction_step",
                                   "on_log", "on_evaluate"});
    REQUIRE(trainer.state().log_history.size() == 1);
    const Json& row = trainer.state().log_history[0];
    CHECK(row.at("eval_loss").as_double() == metrics.at("eval_loss"));
    CHECK(row.at("step").as_int() == 0);
  }

  TEST_CASE("and over labels where it does") {
    const TemporaryFolder folder;
    TrainingArguments args = quiet_args(folder);
    args.per_device_eval_batch_size = 5;  // batches of 5, 5 and 2
    nn::models::Gpt2 gpt(tiny_gpt_config(0.3));
    gpt.to(f64);
    Trainer trainer(gpt, args, {.eval_dataset = uneven_text()});
    silence(trainer);
    const double loss = trainer.evaluate().at("eval_loss");
    double sum = 0.0;
    int count = 0;
    gpt.eval();
    const NoGradGuard no_grad;
    for (int64_t i = 0; i < 12; ++i) {
      const Example example = uneven_text()->get(i);
      const auto logits = gpt.forward(unsqueeze(example.at("input_ids"), 0)).to_vector<double>();
      const auto labels = example.at("labels").to_vector<int64_t>();
      for (size_t t = 0; t < 7; ++t) {
        if (labels[t + 1] == -100) continue;
        double total = 0.0;
        for (size_t v = 0; v < 16; ++v) total += std::exp(logits[16 * t + v]);
        sum += std::log(total) - logits[16 * t + static_cast<size_t>(labels[t + 1])];
        ++count;
      }
    }
    CHECK(loss == Approx(sum / count).epsilon(1e-12));
  }

  TEST_CASE("several sets: a row, an event and a prefix for each") {
    Five five;
    Trainer& trainer =
        five.make({.eval_dataset = std::map<std::string, std::shared_ptr<const Dataset>>{
                       {"short", line_data(2)}, {"long", line_data(4)}}});
    const Metrics metrics = trainer.evaluate();
    CHECK(metrics.at("eval_short_loss") == Approx(line_loss({0.5, 0.25}, 0, 2).loss));
    CHECK(metrics.at("eval_long_loss") == Approx(line_loss({0.5, 0.25}, 0, 4).loss));
    CHECK(metrics.contains("eval_short_runtime"));
    CHECK(metrics.contains("eval_long_steps_per_second"));
    CHECK(logged(trainer.state(), "eval_short_loss").size() == 1);
    CHECK(logged(trainer.state(), "eval_long_loss").size() == 1);
    CHECK(trainer.state().log_history.size() == 2);
    CHECK(std::count(five.recorder->events.begin(), five.recorder->events.end(), "on_evaluate") ==
          2);
  }

  TEST_CASE("another set and another prefix; metrics that have the prefix keep their names") {
    Five five;
    Trainer& trainer = five.make({.compute_metrics = [](const EvalPrediction& p) {
      return Metrics{{"count", static_cast<double>(p.predictions.size(0))}, {"final_twice", 2.0}};
    }});
    const Metrics metrics = trainer.evaluate(line_data(3), "final");
    CHECK(names_of(metrics) == std::vector<std::string>{"final_count", "final_loss",
                                                        "final_runtime", "final_samples_per_second",
                                                        "final_steps_per_second", "final_twice"});
    CHECK(metrics.at("final_count") == 3.0);
    CHECK(metrics.at("final_loss") == Approx(line_loss({0.5, 0.25}, 0, 3).loss));
  }

  TEST_CASE("compute_metrics sees everything in the order of the data") {
    Five five;
    five.args.include_for_metrics = {"inputs", "loss"};
    EvalPrediction seen;
    Trainer& trainer = five.make({.compute_metrics = [&](const EvalPrediction& prediction) {
      seen = prediction;
      return Metrics{};
    }});
    trainer.evaluate();
    REQUIRE(seen.predictions.shape() == Shape{5, 1});
    const auto predictions = seen.predictions.to_vector<double>();
    const auto labels = seen.label_ids.to_vector<double>();
    const auto inputs = seen.inputs.to_vector<double>();
    for (size_t i = 0; i < 5; ++i) {
      const double x = static_cast<double>(i) / 10;
      CHECK(inputs[i] == x);
      CHECK(predictions[i] == Approx(0.5 * x + 0.25));
      CHECK(labels[i] == Approx(2 * x + 1));
    }
    const auto losses = seen.losses.to_vector<double>();  // an example's is its batch's mean
    REQUIRE(losses.size() == 5);
    for (int i = 0; i < 5; ++i) {
      const int begin = i / 2 * 2;
      CHECK(losses[static_cast<size_t>(i)] ==
            Approx(line_loss({0.5, 0.25}, begin, std::min(begin + 2, 5)).loss));
    }
  }

  TEST_CASE("inputs and losses only where they are asked for; the loss alone needs nothing else") {
    Five five;
    EvalPrediction seen;
    int calls = 0;
    const ComputeMetrics note = [&](const EvalPrediction& prediction) {
      seen = prediction;
      ++calls;
      return Metrics{{"extra", 1.0}};
    };
    five.make({.compute_metrics = note}).evaluate();
    CHECK(calls == 1);
    CHECK_FALSE(seen.inputs.defined());
    CHECK_FALSE(seen.losses.defined());
    five.args.prediction_loss_only = true;
    CHECK_FALSE(five.make({.compute_metrics = note}).evaluate().contains("eval_extra"));
    CHECK(calls == 1);
  }

  TEST_CASE("preprocess_logits_for_metrics comes before anything is kept") {
    Five five;
    std::vector<double> seen;
    Trainer& trainer =
        five.make({.compute_metrics =
                       [&](const EvalPrediction& prediction) {
                         seen = prediction.predictions.to_vector<double>();
                         return Metrics{};
                       },
                   .preprocess_logits_for_metrics =
                       [](const Tensor& logits, const Tensor& labels) { return logits - labels; }});
    const double loss = trainer.evaluate().at("eval_loss");
    CHECK(loss == Approx(line_loss({0.5, 0.25}, 0, 5).loss));  // of the logits as they were
    REQUIRE(seen.size() == 5);
    for (size_t i = 0; i < 5; ++i) {
      const double x = static_cast<double>(i) / 10;
      CHECK(seen[i] == Approx(0.5 * x + 0.25 - (2 * x + 1)));
    }
  }

  TEST_CASE("batch_eval_metrics: batch by batch, and the last call's result counts") {
    Five five;
    five.args.batch_eval_metrics = true;
    std::vector<int64_t> sizes;
    std::vector<bool> lasts;
    double sum = 0.0;
    Trainer& trainer =
        five.make({.compute_batch_metrics = [&](const EvalPrediction& batch, bool last) {
          sizes.push_back(batch.predictions.size(0));
          lasts.push_back(last);
          for (const double value : batch.label_ids.to_vector<double>()) sum += value;
          return Metrics{{"sum", sum}};
        }});
    // Labels 1, 1.2, 1.4, 1.6 and 1.8.
    CHECK(trainer.evaluate().at("eval_sum") == Approx(7.0));
    CHECK(sizes == std::vector<int64_t>{2, 2, 1});
    CHECK(lasts == std::vector<bool>{false, false, true});
  }

  TEST_CASE("rows of unequal length are padded with -100") {
    for (const bool accumulate : {false, true}) {
      CAPTURE(accumulate);
      const TemporaryFolder folder;
      TrainingArguments args = pairs(folder);
      if (accumulate) args.eval_accumulation_steps = 2;
      Echo model;
      Trainer trainer(model, args, {.data_collator = DataCollatorWithPadding{}});
      silence(trainer);
      const PredictionOutput output = trainer.predict(unequal_sequences());
      // Batches of lengths 2, 4 and 2; the collator pads within a batch with token 0.
      CHECK(output.predictions.shape() == Shape{5, 4});
      CHECK(output.predictions.to_vector<double>() ==
            std::vector<double>{1.5, 0.5, -100, -100, 2.5, 3.5, -100, -100, 4.5,  5.5,
                                6.5, 7.5, 8.5,  0.5,  0.5, 0.5, 9.5,  10.5, -100, -100});
      CHECK(output.label_ids.to_vector<int64_t>() ==
            std::vector<int64_t>{1, -100, -100, -100, 2,    3,    -100, -100, 4,    5,
                                 6, 7,    8,    -100, -100, -100, 9,    10,   -100, -100});
    }
  }

  TEST_CASE("or kept as a list") {
    const TemporaryFolder folder;
    TrainingArguments args = pairs(folder);
    args.eval_do_concat_batches = false;
    EvalPrediction seen;
    Echo model;
    Trainer trainer(model, args,
                    {.eval_dataset = unequal_sequences(),
                     .data_collator = DataCollatorWithPadding{},
                     .compute_metrics = [&](const EvalPrediction& prediction) {
                       seen = prediction;
                       return Metrics{};
                     }});
    silence(trainer);
    trainer.evaluate();
    REQUIRE(seen.batches.size() == 3);
    CHECK(seen.batches[0].predictions.shape() == Shape{2, 2});
    CHECK(seen.batches[1].predictions.shape() == Shape{2, 4});
    CHECK(seen.batches[2].label_ids.to_vector<int64_t>() == std::vector<int64_t>{9, 10});
  }

  TEST_CASE("predict() neither logs nor counts as an evaluation") {
    Five five;
    Trainer& trainer = five.make({.compute_metrics = [](const EvalPrediction& p) {
      return Metrics{{"count", static_cast<double>(p.predictions.size(0))}};
    }});
    const PredictionOutput output = trainer.predict(line_data(3));
    CHECK(names_of(output.metrics) ==
          std::vector<std::string>{"test_count", "test_loss", "test_runtime",
                                   "test_samples_per_second", "test_steps_per_second"});
    CHECK(output.predictions.size(0) == 3);
    CHECK(output.label_ids.size(0) == 3);
    CHECK(trainer.state().log_history.empty());
    CHECK(five.recorder->events ==
          std::vector<std::string>{"on_prediction_step", "on_prediction_step", "on_predict"});
    CHECK(trainer.predict(line_data(3), "other").metrics.contains("other_loss"));
  }

  TEST_CASE("without labels there is no loss") {
    Five five;
    Trainer& trainer = five.make();
    const std::vector<Example> examples = {{{"x", Tensor::from<double>({3.0}, {1})}}};
    const PredictionOutput output = trainer.predict(std::make_shared<InMemoryDataset>(examples));
    CHECK(output.predictions.item<double>() == 1.75);
    CHECK_FALSE(output.label_ids.defined());
    CHECK_FALSE(output.metrics.contains("test_loss"));
  }

  TEST_CASE("drop_last leaves out the last batch of evaluations too") {
    Five five;
    five.args.dataloader_drop_last = true;
    Trainer& trainer = five.make();
    CHECK(trainer.evaluate().at("eval_loss") == Approx(line_loss({0.5, 0.25}, 0, 4).loss));
    CHECK(trainer.predict(line_data(5)).predictions.size(0) == 4);
  }

  TEST_CASE("compute_loss_func holds for evaluations too") {
    Five five;
    Trainer& trainer = five.make(
        {.compute_loss_func = [](const ModelOutput& outputs, const Batch&, std::optional<int64_t>) {
          return mean(output(outputs, "logits"));
        }});
    // The mean of 0.5 x + 0.25 over x = 0 .. 0.4.
    CHECK(trainer.evaluate().at("eval_loss") == Approx(0.35));
  }

  TEST_CASE("16 bits for an evaluation, and the weights as they were") {
    for (const bool brain_float : {true, false}) {
      CAPTURE(brain_float);
      const TemporaryFolder folder;
      TrainingArguments args = pairs(folder);
      nn::models::Gpt2 gpt(tiny_gpt_config());
      Trainer exact(gpt, args, {.eval_dataset = letters(3)});
      silence(exact);
      const double loss = exact.evaluate().at("eval_loss");
      (brain_float ? args.bf16_full_eval : args.fp16_full_eval) = true;
      Trainer rounded(gpt, args, {.eval_dataset = letters(3)});
      silence(rounded);
      const std::vector<double> before = all_weights(gpt);
      const double rounded_loss = rounded.evaluate().at("eval_loss");
      CHECK(rounded_loss != loss);
      CHECK(rounded_loss == Approx(loss).epsilon(0.02));
      CHECK(all_weights(gpt) == before);
      CHECK(gpt.parameters().front().dtype() == f32);
      CHECK(gpt.training());
    }
  }
}
