// The training loop by its specification: how many steps, which events, which weights, which rows.
#include <doctest/doctest.h>

#include <cmath>

#include "trainer/callback_tools.h"
#include "trainer/line_fit.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;
using doctest::Approx;

namespace {

// Ten examples in order, batches of 2, two batches per step: steps of 2, 2 and 1 batches.
TrainingArguments ten_in_order(const TemporaryFolder& folder) {
  TrainingArguments args = quiet_args(folder);
  args.num_train_epochs = 2;
  args.per_device_train_batch_size = 2;
  args.per_device_eval_batch_size = 2;
  args.gradient_accumulation_steps = 2;
  args.train_sampling_strategy = SamplingStrategy::sequential;
  args.max_grad_norm = 0;
  args.learning_rate = 0.1;
  args.optim = "sgd";
  return args;
}

// What gradient descent by hand goes through: the loss and gradient of each step, and the line
// after it.
struct Descent {
  std::vector<LineLoss> losses;
  std::vector<Line> lines;
};

Descent descend_by_hand(Line line, const std::vector<double>& rates) {
  Descent descent;
  for (size_t step = 0; step < rates.size(); ++step) {
    descent.losses.push_back(line_loss(line, kWindowsOfTen[step % 3]));
    line = descend(line, descent.losses.back(), rates[step]);
    descent.lines.push_back(line);
  }
  return descent;
}

const std::vector<double> kLinearRates = {0.1,         0.1 * 5 / 6, 0.1 * 4 / 6,
                                          0.1 * 3 / 6, 0.1 * 2 / 6, 0.1 * 1 / 6};

// The line after each step.
struct LineRecorder : TrainerCallback {
  std::vector<Line> lines;
  void on_step_end(CallbackContext& c) override {
    const std::vector<double> weights = all_weights(*c.model);
    lines.push_back({weights.at(0), weights.at(1)});
  }
};

void check_line(const Line& line, const Line& expected) {
  CHECK(std::abs(line.a - expected.a) <= 1e-12);
  CHECK(std::abs(line.b - expected.b) <= 1e-12);
}

Line line_of(const Trainer& trainer) {
  const std::vector<double> weights = all_weights(trainer.model().module());
  return {weights.at(0), weights.at(1)};
}

std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [name, value] : object.members()) keys.push_back(name);
  return keys;
}

// A run of ten_in_order from a = b = 0.
struct Run {
  TemporaryFolder folder;
  TrainingArguments args = ten_in_order(folder);
  Regression model;
  TrainOutput output;
  std::unique_ptr<Trainer> trainer;

  void train(TrainerOptions options = {}) {
    if (!options.train_dataset) options.train_dataset = line_data(10);
    trainer = std::make_unique<Trainer>(model, args, std::move(options));
    silence(*trainer);
    output = trainer->train();
  }
};

void check_values(const std::vector<double>& values, const std::vector<double>& expected) {
  REQUIRE(values.size() == expected.size());
  for (size_t i = 0; i < values.size(); ++i) CHECK(values[i] == Approx(expected[i]).epsilon(1e-12));
}

}  // namespace

TEST_SUITE("trainer_loop") {
  TEST_CASE("steps of a run") {
    TrainingArguments args;
    args.gradient_accumulation_steps = 4;
    args.num_train_epochs = 3;
    StepPlan plan = StepPlan::make(args, 10, 79, 32);  // 10 batches: windows of 4, 4 and 2
    CHECK(plan.updates_per_epoch == 3);
    CHECK(plan.max_steps == 9);
    CHECK(plan.num_train_epochs == 3);
    CHECK(plan.batches_per_epoch == 10);
    CHECK(plan.num_train_samples == 237.0);
    CHECK(plan.epoch_after(2, 4, 4) == 2.4);

    args.num_train_epochs = 1.5;  // 4.5 steps
    plan = StepPlan::make(args, 10, 79, 32);
    CHECK(plan.max_steps == 5);
    CHECK(plan.num_train_epochs == 2);

    args.max_steps = 7;  // says more than num_train_epochs
    plan = StepPlan::make(args, 10, 79, 32);
    CHECK(plan.max_steps == 7);
    CHECK(plan.num_train_epochs == 3);
    CHECK(plan.num_train_samples == 7.0 * 32);

    args.max_steps = -1;
    args.num_train_epochs = 2;
    CHECK(StepPlan::make(args, 3, 20, 32).updates_per_epoch == 1);  // a window is never filled
    CHECK(StepPlan::make(args, 3, 20, 32).max_steps == 2);
    CHECK(StepPlan::make(args, 4, 32, 32).max_steps == 2);
    CHECK(StepPlan::make(args, 5, 40, 32).max_steps == 4);
    CHECK(contains_text(error_of([&] { StepPlan::make(args, 0, 0, 32); }), "batch"));
  }

  TEST_CASE("steps of a run over data of unknown length") {
    TrainingArguments args;
    args.gradient_accumulation_steps = 2;
    CHECK(contains_text(error_of([&] { StepPlan::make(args, {}, {}, 16); }), "max_steps"));
    args.max_steps = 12;
    const StepPlan plan = StepPlan::make(args, {}, {}, 16);
    CHECK(plan.max_steps == 12);
    CHECK(plan.updates_per_epoch == 12);
    CHECK_FALSE(plan.batches_per_epoch);
    CHECK(plan.num_train_epochs >= 12);
    CHECK(plan.num_train_samples == 192.0);
    CHECK(plan.epoch_after(0, 6, 2) == 0.25);  // 6 of 24 batches
  }

  TEST_CASE("steps as a fraction of all") {
    CHECK(resolve_steps(0.25, 9) == 3.0);  // 2.25
    CHECK(resolve_steps(0.5, 6) == 3.0);
    CHECK(resolve_steps(0.001, 6) == 1.0);
    CHECK(resolve_steps(1.0, 6) == 1.0);
    CHECK(resolve_steps(500.0, 6) == 500.0);

    Run run;
    run.args.logging_strategy = IntervalStrategy::steps;
    run.args.logging_steps = 0.5;
    run.train();
    CHECK(run.trainer->state().logging_steps == 3.0);
    CHECK(run.trainer->args().logging_steps == 0.5);
    CHECK(logged(run.trainer->state(), "loss").size() == 2);
    check_values(logged(run.trainer->state(), "step"), {3, 6, 6});
  }

  TEST_CASE("fractions of epochs, and more steps than the data have") {
    Run half;
    half.args.num_train_epochs = 1.5;
    half.train();
    CHECK(half.output.global_step == 5);
    CHECK(half.trainer->state().epoch == Approx(1.8));  // 4 of 5 batches

    Run long_run;
    long_run.args.max_steps = 7;
    long_run.train();
    CHECK(long_run.output.global_step == 7);
    CHECK(long_run.trainer->state().epoch == Approx(2.4));
    CHECK(long_run.trainer->state().num_train_epochs == 3);
    std::vector<double> rates;
    for (int step = 0; step < 7; ++step) rates.push_back(0.1 * (7 - step) / 7);
    check_line(line_of(*long_run.trainer), descend_by_hand({}, rates).lines.back());
  }

  TEST_CASE("every event of two passes, in order") {
    Run run;
    run.args.logging_strategy = IntervalStrategy::steps;
    run.args.logging_steps = 2;
    run.args.eval_strategy = IntervalStrategy::steps;
    run.args.eval_steps = 3;
    run.args.save_strategy = SaveStrategy::steps;
    run.args.save_steps = 4;
    const auto recorder = std::make_shared<EventRecorder>();
    run.train({.eval_dataset = line_data(4), .callbacks = {recorder}});
    const std::vector<std::string> step_of_two = {"on_step_begin", "on_substep_end",
                                                  "on_pre_optimizer_step", "on_optimizer_step",
                                                  "on_step_end"};
    const std::vector<std::string> step_of_one = {"on_step_begin", "on_pre_optimizer_step",
                                                  "on_optimizer_step", "on_step_end"};
    const std::vector<std::string> evaluation = {"on_prediction_step", "on_prediction_step",
                                                 "on_log", "on_evaluate"};
    std::vector<std::string> expected;
    const auto then = [&](const std::vector<std::string>& events) {
      expected.insert(expected.end(), events.begin(), events.end());
    };
    then({"on_init_end", "on_train_begin", "on_epoch_begin"});
    then(step_of_two);
    then(step_of_two), then({"on_log"});
    then(step_of_one), then(evaluation);
    then({"on_epoch_end", "on_epoch_begin"});
    then(step_of_two), then({"on_log", "on_save"});
    then(step_of_two);
    then(step_of_one), then({"on_log"}), then(evaluation), then({"on_save"});
    then({"on_epoch_end", "on_log", "on_train_end"});
    for (size_t i = 0; i < std::min(expected.size(), recorder->events.size()); ++i) {
      CAPTURE(i);
      REQUIRE(recorder->events[i] == expected[i]);
    }
    CHECK(recorder->events.size() == expected.size());
  }

  TEST_CASE("the line of every step is gradient descent's, with a linear schedule") {
    Run run;
    const auto recorder = std::make_shared<LineRecorder>();
    run.train({.callbacks = {recorder}});
    const Descent expected = descend_by_hand({}, kLinearRates);
    REQUIRE(recorder->lines.size() == 6);
    for (size_t step = 0; step < 6; ++step) check_line(recorder->lines[step], expected.lines[step]);
    double sum = 0.0;
    for (const LineLoss& loss : expected.losses) sum += loss.loss;
    CHECK(run.output.training_loss == Approx(sum / 6).epsilon(1e-12));
    CHECK(run.output.global_step == 6);
  }

  TEST_CASE("log rows: the mean loss since the last row, the last step's norm and rate") {
    Run run;
    run.args.logging_strategy = IntervalStrategy::steps;
    run.args.logging_steps = 2;
    run.args.logging_first_step = true;
    run.args.max_grad_norm = 1e9;  // measured, but never cut
    run.train();
    const std::vector<LineLoss> step = descend_by_hand({}, kLinearRates).losses;
    const TrainerState& state = run.trainer->state();
    check_values(logged(state, "step"), {1, 2, 4, 6, 6});
    check_values(logged(state, "loss"),
                 {step[0].loss, step[1].loss, (step[2].loss + step[3].loss) / 2,
                  (step[4].loss + step[5].loss) / 2});
    check_values(logged(state, "grad_norm"),
                 {step[0].norm(), step[1].norm(), step[3].norm(), step[5].norm()});
    check_values(logged(state, "learning_rate"),
                 {kLinearRates[0], kLinearRates[1], kLinearRates[3], kLinearRates[5]});
    check_values(logged(state, "epoch"), {0.4, 0.8, 1.4, 2.0, 2.0});
    CHECK(keys_of(state.log_history[0]) ==
          std::vector<std::string>{"loss", "grad_norm", "learning_rate", "epoch", "step"});
  }

  TEST_CASE("one row per step, however often it is asked for") {
    struct AskAgain : TrainerCallback {
      void on_epoch_end(CallbackContext& c) override { c.control.should_log = true; }
    };
    Run run;
    run.args.logging_strategy = IntervalStrategy::steps;
    run.args.logging_steps = 3;
    run.train({.callbacks = {std::make_shared<AskAgain>()}});
    check_values(logged(run.trainer->state(), "step"), {3, 6, 6});
    CHECK(logged(run.trainer->state(), "loss").size() == 2);
    CHECK(logged(run.trainer->state(), "grad_norm").empty());  // max_grad_norm 0 measures none

    Run epochs;
    epochs.args.logging_strategy = IntervalStrategy::epoch;
    epochs.train();
    check_values(logged(epochs.trainer->state(), "step"), {3, 6, 6});
    check_values(logged(epochs.trainer->state(), "epoch"), {1, 2, 2});
  }

  TEST_CASE("clipping: gradients at the limit, the norm of before in the log") {
    Run run;
    run.args.max_steps = 1;
    run.args.max_grad_norm = 0.5;
    run.args.lr_scheduler_type = SchedulerType::constant;
    run.args.logging_first_step = true;
    run.args.logging_strategy = IntervalStrategy::steps;
    run.train();
    LineLoss loss = line_loss(Line{}, kWindowsOfTen[0]);
    const double norm = loss.norm();
    REQUIRE(norm > 0.5);
    check_values(logged(run.trainer->state(), "grad_norm"), {norm});
    const double factor = 0.5 / (norm + 1e-6);
    loss.gradient = {loss.gradient.a * factor, loss.gradient.b * factor};
    check_line(line_of(*run.trainer), descend({}, loss, 0.1));
  }

  TEST_CASE("warm-up starts at rate 0, and plain rows show it") {
    Run run;
    run.args.warmup_steps = 2;
    run.args.logging_strategy = IntervalStrategy::steps;
    run.args.logging_steps = 1;
    run.train();
    check_values(logged(run.trainer->state(), "learning_rate"),
                 {0.0, 0.05, 0.1, 0.1 * 3 / 4, 0.1 * 2 / 4, 0.1 * 1 / 4});
  }

  TEST_CASE("the summary") {
    Run run;
    run.train();
    std::vector<std::string> names;
    for (const auto& [name, value] : run.output.metrics) names.push_back(name);
    CHECK(names == std::vector<std::string>{"epoch", "total_flos", "train_loss", "train_runtime",
                                            "train_samples_per_second", "train_steps_per_second"});
    CHECK(run.output.metrics.at("epoch") == 2.0);
    CHECK(run.output.metrics.at("train_loss") == run.output.training_loss);
    const Json& row = run.trainer->state().log_history.back();
    for (const std::string& name : names) CHECK(row.find(name) != nullptr);
    CHECK(row.at("step").as_int() == 6);
    // 6 operations for each of 2 * 10 numbers that went in and each of the 2 parameters.
    CHECK(run.output.metrics.at("total_flos") == 6.0 * 20 * 2);
  }
}
