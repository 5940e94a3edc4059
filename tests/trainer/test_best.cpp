// Evaluations while training: when, which is best, and what becomes of its checkpoint.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include <tendril/core/safetensors.h>
#include <tendril/trainer/checkpoint/checkpoint_folder.h>
#include "trainer/callback_tools.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;
namespace fs = std::filesystem;

namespace {

// Eight examples in batches of 2, 4 steps; evaluations give the values of a script, one after the
// other.
struct Scripted {
  TemporaryFolder folder;
  TrainingArguments args = quiet_args(folder);
  Regression model;
  std::vector<double> script;
  std::string metric = "score";
  size_t evaluations = 0;
  std::vector<std::shared_ptr<TrainerCallback>> callbacks;
  std::unique_ptr<Trainer> trainer;
  // After each step, by its number.
  std::map<int64_t, std::vector<double>> weights;
  std::map<int64_t, std::vector<int64_t>> folders;  // the checkpoints there are when one was saved

  Scripted() {
    args.num_train_epochs = 1;
    args.per_device_train_batch_size = 2;
    args.learning_rate = 0.01;
    args.eval_strategy = IntervalStrategy::steps;
    args.eval_steps = 1;
    args.save_strategy = SaveStrategy::steps;
    args.save_steps = 1;
    args.metric_for_best_model = "score";
  }
  std::vector<int64_t> checkpoints() const {
    std::vector<int64_t> steps;
    for (const CheckpointPath& path : list_checkpoints(folder.path())) steps.push_back(path.step);
    return steps;
  }
  const TrainerState& state() const { return trainer->state(); }
  std::string best_folder() const {
    return fs::path(state().best_model_checkpoint.value_or("none")).filename().string();
  }
  void train(std::vector<double> values, int64_t steps = 4) {
    script = std::move(values);
    TrainerOptions options{.train_dataset = line_data(2 * steps), .eval_dataset = line_data(3)};
    options.compute_metrics = [this](const EvalPrediction&) {
      return Metrics{{metric, script.at(evaluations++)}, {"other", 0.0}};
    };
    options.callbacks = callbacks;
    options.callbacks.push_back(std::make_shared<Watch>(*this));
    trainer = std::make_unique<Trainer>(model, args, std::move(options));
    silence(*trainer);
    trainer->train();
  }

 private:
  struct Watch : TrainerCallback {
    Scripted& run;
    explicit Watch(Scripted& run) : run(run) {}
    void on_step_end(CallbackContext& c) override {
      run.weights[c.state.global_step] = all_weights(*c.model);
    }
    void on_save(CallbackContext& c) override {
      run.folders[c.state.global_step] = run.checkpoints();
    }
  };
};

using Steps = std::vector<int64_t>;

std::vector<double> steps_of_rows_with(const TrainerState& state, const std::string& key) {
  std::vector<double> steps;
  for (const Json& row : state.log_history)
    if (row.find(key)) steps.push_back(row.at("step").as_double());
  return steps;
}

}  // namespace

TEST_SUITE("trainer_best") {
  TEST_CASE("eval_delay holds evaluations back, by steps or by epochs") {
    Scripted steps;
    steps.args.eval_steps = 2;
    steps.args.eval_delay = 3;
    steps.train({1, 1}, 6);
    CHECK(steps_of_rows_with(steps.state(), "eval_loss") == std::vector<double>{4, 6});

    Scripted epochs;
    epochs.args.num_train_epochs = 3;
    epochs.args.eval_strategy = IntervalStrategy::epoch;
    epochs.args.eval_delay = 2;
    epochs.train({1, 1}, 2);
    CHECK(steps_of_rows_with(epochs.state(), "eval_loss") == std::vector<double>{4, 6});
  }

  TEST_CASE("eval_steps follows logging_steps where it is unset") {
    Scripted run;
    run.args.eval_steps = std::nullopt;
    run.args.logging_steps = 2;
    run.train({1, 1});
    CHECK(steps_of_rows_with(run.state(), "eval_loss") == std::vector<double>{2, 4});
  }

  TEST_CASE("eval_on_start evaluates the model as it came") {
    Scripted run;
    run.args.eval_on_start = true;
    run.args.eval_steps = 4;
    run.train({1, 2});
    CHECK(steps_of_rows_with(run.state(), "eval_loss") == std::vector<double>{0, 4});
    // Labels 1, 1.2 and 1.4 against a line of zeros.
    CHECK(run.state().log_history[0].at("eval_loss").as_double() ==
          doctest::Approx((1.0 + 1.44 + 1.96) / 3));
  }

  TEST_CASE("the best is the largest or the smallest, and the first of equals") {
    Scripted largest;
    largest.train({2, 5, 5, 4});
    CHECK(largest.state().best_metric == 5.0);
    CHECK(largest.state().best_global_step == 2);
    CHECK(largest.best_folder() == "checkpoint-2");

    Scripted smallest;
    smallest.metric = "eval_some_loss";
    smallest.args.metric_for_best_model = "some_loss";  // a name that ends in loss
    smallest.train({2, 5, 1, 1});
    CHECK(smallest.state().best_metric == 1.0);
    CHECK(smallest.state().best_global_step == 3);

    Scripted said;
    said.args.metric_for_best_model = "eval_score";
    said.args.greater_is_better = false;
    said.train({2, 5, 1, 3});
    CHECK(said.state().best_metric == 1.0);
  }

  TEST_CASE("what is no number is never the best") {
    Scripted run;
    run.train({std::nan(""), 1, std::nan(""), 0.5});
    CHECK(run.state().best_metric == 1.0);
    CHECK(run.state().best_global_step == 2);
  }

  TEST_CASE("a metric that is not there is an error with those that are") {
    Scripted run;
    run.args.metric_for_best_model = "acuracy";
    const std::string message = error_of([&] { run.train({1, 1, 1, 1}); });
    CHECK(contains_text(message, "eval_acuracy"));
    CHECK(contains_text(message, "eval_score"));
    CHECK(contains_text(message, "eval_other"));
    CHECK(contains_text(message, "eval_loss"));
  }

  TEST_CASE("without metric_for_best_model nothing is best") {
    Scripted run;
    run.args.metric_for_best_model = std::nullopt;
    run.train({1, 2, 3, 4});
    CHECK_FALSE(run.state().best_metric);
    CHECK_FALSE(run.state().best_model_checkpoint);
  }

  TEST_CASE("the best of several evaluation sets is named with its set") {
    const TemporaryFolder folder;
    TrainingArguments args = quiet_args(folder);
    args.max_steps = 2;
    args.eval_strategy = IntervalStrategy::steps;
    args.eval_steps = 1;
    args.metric_for_best_model = "eval_long_loss";
    Regression model;
    Trainer trainer(model, args,
                    {.train_dataset = line_data(8),
                     .eval_dataset = std::map<std::string, std::shared_ptr<const Dataset>>{
                         {"short", line_data(2)}, {"long", line_data(4)}}});
    silence(trainer);
    trainer.train();
    const std::vector<double> losses = logged(trainer.state(), "eval_long_loss");
    REQUIRE(losses.size() == 2);
    CHECK(trainer.state().best_metric == std::min(losses[0], losses[1]));
  }

  TEST_CASE("save_strategy best saves every new best, and what a callback asks for") {
    Scripted run;
    run.args.save_strategy = SaveStrategy::best;
    run.train({2, 1, 3, 3});
    CHECK(run.checkpoints() == Steps{1, 3});

    // A departure: the original forgets a request that comes before the comparison.
    struct Ask : TrainerCallback {
      void on_step_end(CallbackContext& c) override {
        if (c.state.global_step == 2) c.control.should_save = true;
      }
    };
    Scripted asked;
    asked.args.save_strategy = SaveStrategy::best;
    asked.callbacks = {std::make_shared<Ask>()};
    asked.train({2, 1, 3, 3});
    CHECK(asked.checkpoints() == Steps{1, 2, 3});
  }

  TEST_CASE("load_best_model_at_end ends with the weights of the best") {
    for (const SaveStrategy strategy : {SaveStrategy::steps, SaveStrategy::best}) {
      Scripted run;
      run.args.save_strategy = strategy;
      run.args.load_best_model_at_end = true;
      run.train({1, 4, 3, 2});
      CHECK(all_weights(run.model) == run.weights.at(2));
      CHECK(run.weights.at(2) != run.weights.at(4));
      CHECK(run.best_folder() == "checkpoint-2");
    }
  }

  TEST_CASE("load_best_model_at_end takes the loss when no metric is named") {
    Scripted run;
    run.args.metric_for_best_model = std::nullopt;
    run.args.load_best_model_at_end = true;
    run.args.optim = "sgd";
    run.args.learning_rate = 2.0;  // far too large: every step is worse than the one before
    run.args.lr_scheduler_type = SchedulerType::constant;
    run.args.max_grad_norm = 0;
    run.train({0, 0, 0, 0});
    const std::vector<double> losses = logged(run.state(), "eval_loss");
    REQUIRE(losses.size() == 4);
    CHECK(losses[0] < losses[3]);
    CHECK(run.state().best_metric == losses[0]);
    CHECK(all_weights(run.model) == run.weights.at(1));
  }

  TEST_CASE("a best that is found after its step was saved is the best all the same") {
    struct EvaluateAgain : TrainerCallback {
      int64_t at;
      explicit EvaluateAgain(int64_t at) : at(at) {}
      void on_epoch_end(CallbackContext& c) override {
        if (c.state.global_step == at) c.control.should_evaluate = true;
      }
    };
    // Two passes of 4 steps; the evaluation at the end of a pass comes after that of its last step,
    // which was saved.
    Scripted middle;
    middle.args.num_train_epochs = 2;
    middle.args.load_best_model_at_end = true;
    middle.callbacks = {std::make_shared<EvaluateAgain>(4)};
    middle.train({1, 1, 1, 1, /*at the end of the pass*/ 9, 2, 2, 2, 2});
    CHECK(middle.state().best_global_step == 4);
    CHECK(middle.best_folder() == "checkpoint-4");
    CHECK(all_weights(middle.model) == middle.weights.at(4));

    Scripted last;
    last.args.num_train_epochs = 2;
    last.args.load_best_model_at_end = true;
    last.callbacks = {std::make_shared<EvaluateAgain>(8)};
    last.train({1, 1, 1, 1, 2, 3, 2, 2, /*at the end of all*/ 9});
    CHECK(last.state().best_global_step == 8);
    CHECK(last.best_folder() == "checkpoint-8");
    CHECK(all_weights(last.model) == last.weights.at(8));
  }

  TEST_CASE("rotation spares the best and the latest, and the end the best alone") {
    Scripted one;
    one.args.load_best_model_at_end = true;
    one.args.save_total_limit = 1;
    one.train({9, 1, 2, 3});
    CHECK(one.folders.at(1) == Steps{1});
    CHECK(one.folders.at(2) == Steps{1, 2});
    CHECK(one.folders.at(3) == Steps{1, 3});
    CHECK(one.folders.at(4) == Steps{1, 4});
    CHECK(one.checkpoints() == Steps{1});

    Scripted three;
    three.args.save_total_limit = 3;
    three.train({1, 9, 2, 3, 4, 5}, 6);
    CHECK(three.checkpoints() == Steps{2, 5, 6});

    Scripted none_is_best;
    none_is_best.args.metric_for_best_model = std::nullopt;
    none_is_best.args.save_total_limit = 2;
    none_is_best.train({9, 1, 2, 3});
    CHECK(none_is_best.checkpoints() == Steps{3, 4});
  }

  TEST_CASE("reduce_lr_on_plateau hears of evaluations in training, not of the one before it") {
    for (const bool on_start : {false, true}) {
      CAPTURE(on_start);
      Scripted run;
      run.args.eval_on_start = on_start;
      run.args.logging_strategy = IntervalStrategy::steps;
      run.args.logging_steps = 1;
      run.args.lr_scheduler_type = SchedulerType::reduce_lr_on_plateau;
      run.args.lr_scheduler_kwargs = Json::object().set("patience", 0).set("factor", 0.5);
      run.train(std::vector<double>(on_start ? 5 : 4, 3.0));
      // The first evaluation is the best so far, each of the others no better.
      CHECK(logged(run.state(), "learning_rate") == std::vector<double>{0.01, 0.01, 0.005, 0.0025});
    }
  }

  TEST_CASE("evaluating changes nothing of the training") {
    const auto train = [](bool evaluate) {
      const TemporaryFolder folder;
      TrainingArguments args = quiet_args(folder);
      args.max_steps = 4;
      args.learning_rate = 1e-2;
      args.per_device_train_batch_size = 2;
      args.bf16_full_eval = true;  // not while training
      if (evaluate) {
        args.eval_strategy = IntervalStrategy::steps;
        args.eval_steps = 1;
        args.eval_on_start = true;
      }
      manual_seed(3);
      nn::models::Gpt2 gpt(tiny_gpt_config(0.2));  // with dropout, which draws random numbers
      Trainer trainer(gpt, args, {.train_dataset = letters(8), .eval_dataset = letters(3)});
      silence(trainer);
      trainer.train();
      return all_weights(gpt);
    };
    CHECK(train(true) == train(false));
  }
}
