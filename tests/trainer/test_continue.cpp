// Going on from a checkpoint with other arguments, other callbacks or further to go. (That an
// unchanged run goes on to the bit is in test_resume.cpp.)
#include <doctest/doctest.h>

#include <cmath>

#include "trainer/callback_tools.h"
#include "trainer/line_fit.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;
using doctest::Approx;

namespace {

// Counts steps, and its count belongs into checkpoints.
struct Counter : TrainerCallback {
  int64_t count = 0;
  void on_step_end(CallbackContext&) override { ++count; }
  Json state() const override {
    return Json::object()
        .set("args", Json::object())
        .set("attributes", Json::object().set("count", count));
  }
  void load_state(const Json& state) override {
    count = state.at("attributes").at("count").as_int();
  }
};

// Ten examples in order, batches of 2, two to a step, two passes of 3 steps, a checkpoint at each.
struct Run {
  TemporaryFolder folder;
  TrainingArguments args = quiet_args(folder);
  Regression model;
  std::shared_ptr<Counter> counter = std::make_shared<Counter>();
  std::unique_ptr<Trainer> trainer;
  TrainOutput output;
  std::vector<std::string> messages;

  Run() {
    args.num_train_epochs = 2;
    args.per_device_train_batch_size = 2;
    args.gradient_accumulation_steps = 2;
    args.train_sampling_strategy = SamplingStrategy::sequential;
    args.max_grad_norm = 0;
    args.learning_rate = 0.1;
    args.lr_scheduler_type = SchedulerType::constant;
    args.optim = "sgd";
    args.save_strategy = SaveStrategy::steps;
    args.save_steps = 1;
  }
  void train(const Resume& resume = {}) {
    TrainerOptions options{.train_dataset = line_data(10)};
    if (counter) options.callbacks = {counter};
    trainer = std::make_unique<Trainer>(model, args, std::move(options));
    silence(*trainer);
    const LogCapture log;
    output = trainer->train(resume);
    messages = log.messages;
  }
  std::string checkpoint(int64_t step) const {
    return folder.file("checkpoint-" + std::to_string(step));
  }
  bool warned(const std::string& text) const {
    for (const std::string& message : messages)
      if (contains_text(message, text)) return true;
    return false;
  }
  void check_line(const Line& line) const {
    CHECK(std::abs(model.a.item<double>() - line.a) <= 1e-12);
    CHECK(std::abs(model.b.item<double>() - line.b) <= 1e-12);
  }
};

// The line after these windows of a pass, by hand.
Line after(const std::vector<size_t>& windows, Line line = {}) {
  for (const size_t window : windows)
    line = descend(line, line_loss(line, kWindowsOfTen.at(window)), 0.1);
  return line;
}

Json saved_state(const std::string& checkpoint) {
  return Json::parse(read_bytes(checkpoint + "/trainer_state.json"), checkpoint);
}

}  // namespace

TEST_SUITE("trainer_continue") {
  TEST_CASE("ignore_data_skip begins the data of the pass again and still ends at max_steps") {
    Run whole, again;
    whole.train();
    whole.check_line(after({0, 1, 2, 0, 1, 2}));
    again.args.ignore_data_skip = true;
    again.train(whole.checkpoint(1));
    CHECK(again.output.global_step == 6);
    again.check_line(after({0, /*resumed*/ 0, 1, 2, 0, 1}));
    CHECK(again.trainer->state().epoch == Approx(1.8));
    again.train(whole.checkpoint(5));
    CHECK(again.output.global_step == 6);
    again.check_line(after({0, 1, 2, 0, 1, /*resumed*/ 0}));
  }

  TEST_CASE("another accumulation: the position follows from the step") {
    Run whole, again;
    whole.train();
    again.args.gradient_accumulation_steps = 1;
    again.train(whole.checkpoint(4));  // of now ten steps, five a pass: four batches are done
    Line line = after({0, 1, 2, 0});
    for (const int begin : {8, 0, 2, 4, 6, 8})
      line = descend(line, line_loss(line, begin, begin + 2), 0.1);
    again.check_line(line);
    CHECK(again.output.global_step == 10);
    CHECK(again.trainer->state().epoch == 2.0);
    CHECK(again.warned("accumulation"));
  }

  TEST_CASE("further to go: more passes, more steps") {
    Run whole, passes, steps;
    whole.train();
    passes.args.num_train_epochs = 3;
    passes.train(whole.checkpoint(6));
    CHECK(passes.output.global_step == 9);
    passes.check_line(after({0, 1, 2, 0, 1, 2, 0, 1, 2}));
    steps.args.max_steps = 7;
    steps.train(whole.checkpoint(5));
    steps.check_line(after({0, 1, 2, 0, 1, 2, 0}));
  }

  TEST_CASE("a run that ended in the middle of a pass trains no step more") {
    Run whole, again;
    whole.args.max_steps = again.args.max_steps = 4;
    whole.train();
    again.train(whole.checkpoint(4));
    CHECK(again.output.global_step == 4);
    again.check_line(after({0, 1, 2, 0}));
    CHECK(again.counter->count == 0);
  }

  TEST_CASE("the mean loss of a resumed run is that of all its steps") {
    Run whole, again;
    whole.train();
    again.train(whole.checkpoint(2));
    CHECK(again.output.training_loss == whole.output.training_loss);
  }

  TEST_CASE("steps for logging are those of the arguments, with a warning") {
    Run whole, again;
    whole.args.logging_strategy = again.args.logging_strategy = IntervalStrategy::steps;
    whole.args.logging_steps = 6;
    whole.train();
    again.args.logging_steps = 2;
    again.args.save_steps = 3;
    again.train(whole.checkpoint(2));
    CHECK(again.warned("logging_steps: 2 (from args) != 6 (from trainer_state.json)"));
    CHECK(again.warned("save_steps: 3 (from args) != 1 (from trainer_state.json)"));
    CHECK_FALSE(again.warned("eval_steps"));
    CHECK(again.trainer->state().logging_steps == 2.0);
    CHECK(logged(again.trainer->state(), "step") == std::vector<double>{4, 6, 6});
  }

  TEST_CASE("callbacks and control are in every checkpoint") {
    Run whole;
    whole.train();
    const Json middle = saved_state(whole.checkpoint(2)).at("stateful_callbacks");
    CHECK(middle.at("Counter").at("attributes").at("count").as_int() == 2);
    const Json control = middle.at("TrainerControl").at("args");
    CHECK(control.at("should_save").as_bool());  // on_save, which clears it, comes after
    CHECK_FALSE(control.at("should_training_stop").as_bool());
    const Json last = saved_state(whole.checkpoint(6)).at("stateful_callbacks");
    CHECK(last.at("TrainerControl").at("args").at("should_training_stop").as_bool());
  }

  TEST_CASE("callbacks get their state back when that is asked for") {
    Run whole, plain, restored;
    whole.train();
    plain.train(whole.checkpoint(2));
    CHECK(plain.counter->count == 4);
    restored.args.restore_callback_states_from_checkpoint = true;
    restored.train(whole.checkpoint(2));
    CHECK(restored.counter->count == 6);
    restored.check_line(after({0, 1, 2, 0, 1, 2}));
    // The stop that the last checkpoint saved does not keep a longer run from going on.
    restored.args.num_train_epochs = 3;
    restored.train(whole.checkpoint(6));
    CHECK(restored.output.global_step == 9);

    Run without;
    without.counter = nullptr;
    without.args.restore_callback_states_from_checkpoint = true;
    without.train(whole.checkpoint(2));
    CHECK(without.warned("Counter"));
  }
}
