// What callbacks can ask of the training loop, losses that are not finite in the log, and calling
// train() again.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "trainer/callback_tools.h"
#include "trainer/line_fit.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;
using doctest::Approx;

namespace {

using Action = std::function<void(CallbackContext&)>;

// Runs code of a test at events.
struct Hooks : TrainerCallback {
  Action substep_end, step_end, epoch_end, train_begin;
  void on_substep_end(CallbackContext& c) override { call(substep_end, c); }
  void on_step_end(CallbackContext& c) override { call(step_end, c); }
  void on_epoch_end(CallbackContext& c) override { call(epoch_end, c); }
  void on_train_begin(CallbackContext& c) override { call(train_begin, c); }
  static void call(const Action& action, CallbackContext& c) {
    if (action) action(c);
  }
};

// Ten examples in order, batches of 2, two to a step, a constant rate of 0.1.
struct Run {
  TemporaryFolder folder;
  TrainingArguments args = quiet_args(folder);
  Regression model;
  std::shared_ptr<Hooks> hooks = std::make_shared<Hooks>();
  std::shared_ptr<EventRecorder> recorder = std::make_shared<EventRecorder>();
  std::unique_ptr<Trainer> trainer;
  TrainOutput output;

  Run() {
    args.num_train_epochs = 2;
    args.per_device_train_batch_size = 2;
    args.gradient_accumulation_steps = 2;
    args.train_sampling_strategy = SamplingStrategy::sequential;
    args.max_grad_norm = 0;
    args.learning_rate = 0.1;
    args.lr_scheduler_type = SchedulerType::constant;
    args.optim = "sgd";
  }
  void train() {
    trainer = std::make_unique<Trainer>(model, args,
                                        TrainerOptions{.train_dataset = line_data(10),
                                                       .eval_dataset = line_data(4),
                                                       .callbacks = {hooks, recorder}});
    silence(*trainer);
    output = trainer->train();
  }
  void check_steps(const std::vector<std::vector<Range>>& steps) const {
    Line line;
    for (const auto& batches : steps) line = descend(line, line_loss(line, batches), 0.1);
    CHECK(std::abs(model.a.item<double>() - line.a) <= 1e-12);
    CHECK(std::abs(model.b.item<double>() - line.b) <= 1e-12);
  }
  int64_t count(const std::string& event) const {
    return std::count(recorder->events.begin(), recorder->events.end(), event);
  }
};

const std::vector<Range>&first = kWindowsOfTen[0], &second = kWindowsOfTen[1],
      &third = kWindowsOfTen[2];

// A loss that is NaN at some batches, though its gradient is not.
struct SometimesNan : Regression {
  std::vector<int64_t> bad;
  int64_t calls = 0;
  ModelOutput forward(const Batch& batch) {
    ModelOutput output = Regression::forward(batch);
    ++calls;
    if (std::find(bad.begin(), bad.end(), calls) != bad.end())
      output.loss = output.loss + std::numeric_limits<double>::quiet_NaN();
    return output;
  }
};

struct NanRun {
  TemporaryFolder folder;
  TrainingArguments args = quiet_args(folder);
  SometimesNan model;
  std::vector<Json> rows;
  double train_loss = 0.0;

  void train(std::vector<int64_t> bad, bool filter) {
    model.bad = std::move(bad);
    args.max_steps = 3;
    args.per_device_train_batch_size = 2;
    args.train_sampling_strategy = SamplingStrategy::sequential;
    args.learning_rate = 0.1;
    args.optim = "sgd";
    args.max_grad_norm = 0;
    args.lr_scheduler_type = SchedulerType::constant;
    args.logging_strategy = IntervalStrategy::steps;
    args.logging_steps = 3;
    args.logging_nan_inf_filter = filter;
    args.nonfinite_policy = NonfinitePolicy::continue_;
    Trainer trainer(model, args, {.train_dataset = line_data(6)});
    silence(trainer);
    const LogCapture quiet;
    train_loss = trainer.train().training_loss;
    rows = trainer.state().log_history;
  }
};

// The losses of three steps of one batch of two.
std::vector<double> three_losses() {
  Line line;
  std::vector<double> losses;
  for (int begin = 0; begin < 6; begin += 2) {
    const LineLoss loss = line_loss(line, begin, begin + 2);
    losses.push_back(loss.loss);
    line = descend(line, loss, 0.1);
  }
  return losses;
}

}  // namespace

TEST_SUITE("trainer_control") {
  TEST_CASE("a stop in the middle of a step gives the half step up") {
    Run run;
    run.hooks->substep_end = [](CallbackContext& c) {
      if (c.state.global_step == 1) c.control.should_training_stop = true;
    };
    run.train();
    CHECK(run.output.global_step == 1);
    run.check_steps({first});
    CHECK(run.recorder->events ==
          std::vector<std::string>{"on_init_end", "on_train_begin", "on_epoch_begin",
                                   "on_step_begin", "on_substep_end", "on_pre_optimizer_step",
                                   "on_optimizer_step", "on_step_end", "on_step_begin",
                                   "on_substep_end", "on_epoch_end", "on_log", "on_train_end"});
  }

  TEST_CASE("the end of a pass in the middle of a step leaves nothing to the next") {
    Run run;
    bool stopped = false;
    run.hooks->substep_end = [&](CallbackContext& c) {
      if (c.state.global_step != 1 || stopped) return;
      stopped = c.control.should_epoch_stop = true;
    };
    run.train();
    run.check_steps({first, first, second, third});
    CHECK(run.output.global_step == 4);
    CHECK(run.count("on_epoch_end") == 2);
  }

  TEST_CASE("a pass or a run can end after any step") {
    Run pass;
    pass.hooks->step_end = [](CallbackContext& c) {
      if (c.state.global_step == 2) c.control.should_epoch_stop = true;
    };
    pass.train();
    pass.check_steps({first, second, first, second, third});
    CHECK(pass.output.global_step == 5);

    Run whole;
    whole.args.save_strategy = SaveStrategy::steps;
    whole.hooks->step_end = [](CallbackContext& c) {
      if (c.state.global_step == 2) c.control.should_training_stop = true;
    };
    whole.train();
    whole.check_steps({first, second});
    CHECK(whole.output.global_step == 2);
    CHECK(whole.trainer->state().epoch == Approx(0.8));
    CHECK(whole.count("on_epoch_end") == 1);
    CHECK(whole.count("on_train_end") == 1);
    CHECK(whole.count("on_save") == 0);  // only the last step of the plan saves by itself
    // Speeds are of what was done: 2 steps of 4 examples.
    CHECK(whole.output.metrics.at("train_samples_per_second") /
              whole.output.metrics.at("train_steps_per_second") ==
          Approx(4.0).epsilon(0.01));
  }

  TEST_CASE("a stop of the run before it began is forgotten, one of an earlier run too") {
    Run run;
    run.hooks->step_end = [](CallbackContext& c) { c.control.should_training_stop = true; };
    run.train();
    CHECK(run.output.global_step == 1);
    run.hooks->step_end = {};
    CHECK(run.trainer->train().global_step == 6);
  }

  TEST_CASE("rows, evaluations and checkpoints on request") {
    Run run;
    run.hooks->step_end = [](CallbackContext& c) {
      if (c.state.global_step == 2)
        c.control.should_log = c.control.should_evaluate = c.control.should_save = true;
    };
    run.hooks->epoch_end = [](CallbackContext& c) {
      if (c.state.global_step == 3) c.control.should_evaluate = true;
    };
    // Cleared when a step begins, before anything is done about it.
    run.hooks->train_begin = [](CallbackContext& c) {
      c.control.should_log = c.control.should_evaluate = c.control.should_save = true;
    };
    run.train();
    CHECK(logged(run.trainer->state(), "step") == std::vector<double>{2, 2, 3, 6});
    CHECK(logged(run.trainer->state(), "loss").size() == 1);
    CHECK(run.count("on_evaluate") == 2);
    CHECK(run.count("on_save") == 1);
    CHECK(std::filesystem::exists(run.folder.path() / "checkpoint-2" / "trainer_state.json"));
  }

  TEST_CASE(
      "a loss that is not finite counts as the row's sum so far over its steps, this included") {
    const std::vector<double> losses = three_losses();
    NanRun run;
    run.train({2}, true);
    CHECK(run.rows[0].at("loss").as_double() ==
          Approx((losses[0] + losses[0] / 2 + losses[2]) / 3).epsilon(1e-12));
    CHECK(run.train_loss == run.rows[0].at("loss").as_double());

    NanRun all;
    all.train({1, 2, 3}, true);
    CHECK(all.rows[0].at("loss").as_double() == 0.0);

    NanRun shown;
    shown.train({2}, false);
    CHECK(shown.rows[0].at("loss").is_null());
    CHECK(std::isnan(shown.train_loss));
  }

  TEST_CASE("training again goes on with weights and optimizer, and counts from 0") {
    Run run;
    run.args.num_train_epochs = 1;
    run.args.lr_scheduler_type = SchedulerType::linear;
    run.args.optim = "adamw_torch";
    run.train();
    const auto optimizer = run.trainer->optimizer();
    const double a = run.model.a.item<double>();
    CHECK(run.trainer->train().global_step == 3);
    CHECK(run.trainer->optimizer() == optimizer);
    CHECK(optimizer->state_dict().at("a.step").item<int64_t>() == 6);
    CHECK(run.model.a.item<double>() != a);
    CHECK(logged(run.trainer->state(), "step") == std::vector<double>{3});  // of this run alone
  }

  TEST_CASE("the schedule of a second run begins anew") {
    Run run;
    run.args.num_train_epochs = 1;
    run.args.lr_scheduler_type = SchedulerType::linear;
    run.train();
    run.trainer->train();
    Line line;
    for (int pass = 0; pass < 2; ++pass)
      for (int step = 0; step < 3; ++step)
        line = descend(line, line_loss(line, kWindowsOfTen[static_cast<size_t>(step)]),
                       0.1 * (3 - step) / 3);
    CHECK(std::abs(run.model.a.item<double>() - line.a) <= 1e-12);
    CHECK(std::abs(run.model.b.item<double>() - line.b) <= 1e-12);
  }

  TEST_CASE("with model_init every run is the same, and its seed decides") {
    const auto make = [] {
      return TrainableModel(std::make_shared<nn::models::Gpt2>(tiny_gpt_config()));
    };
    const auto run = [&](int64_t seed, int times) {
      const TemporaryFolder folder;
      TrainingArguments args = quiet_args(folder);
      args.max_steps = 2;
      args.seed = seed;
      args.data_seed = 1;
      Trainer trainer(ModelInit(make), args, {.train_dataset = letters(16)});
      silence(trainer);
      for (int i = 0; i < times; ++i) CHECK(trainer.train().global_step == 2);
      return all_weights(trainer.model().module());
    };
    const std::vector<double> once = run(5, 1);
    manual_seed(99);  // what came before must not matter
    CHECK(run(5, 1) == once);
    CHECK(run(5, 2) == once);
    CHECK(run(6, 1) != once);
  }
}
