// What goes wrong: numbers that are not finite, memory that runs out, options that cannot work.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include <tendril/optim/sgd.h>
#include "trainer/callback_tools.h"
#include "trainer/line_fit.h"
#include "trainer/loader_tools.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;
using doctest::Approx;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TrainingArguments descent_args(const TemporaryFolder& folder) {
  TrainingArguments args = quiet_args(folder);
  args.num_train_epochs = 1;
  args.per_device_train_batch_size = 2;
  args.train_sampling_strategy = SamplingStrategy::sequential;
  args.learning_rate = 0.1;
  args.lr_scheduler_type = SchedulerType::constant;
  args.optim = "sgd";
  args.max_grad_norm = 0;
  return args;
}

// Four examples, the third of which has no number for a label: the second of two steps is bad.
std::shared_ptr<const Dataset> third_is_nan(int64_t size = 4) {
  std::vector<Example> examples;
  for (int64_t i = 0; i < size; ++i) {
    Example example = line_data(size)->get(i);
    if (i == 2) example["labels"] = Tensor::from<double>({kNan}, {1});
    examples.push_back(std::move(example));
  }
  return std::make_shared<InMemoryDataset>(std::move(examples));
}

// Runs out of memory for more than five examples, but only at its third call: after weights have
// moved.
struct Hungry : Regression {
  std::vector<int64_t> sizes;
  int64_t calls = 0;
  ModelOutput forward(const Batch& batch) {
    const int64_t size = column(batch, "x").size(0);
    if (sizes.empty() || sizes.back() != size) {
      sizes.push_back(size);
      calls = 0;
    }
    if (++calls == 3 && size > 5) throw OutOfMemory("[test] no memory");
    return Regression::forward(batch);
  }
};

using Options = std::function<void(TrainingArguments&, TrainerOptions&)>;

// What the constructor says to these options.
std::string refusal(const Options& change) {
  const TemporaryFolder folder;
  TrainingArguments args = quiet_args(folder);
  TrainerOptions options{.train_dataset = line_data(4)};
  change(args, options);
  Regression model;
  return error_of([&] { Trainer trainer(model, args, options); });
}

}  // namespace

TEST_SUITE("trainer_failures") {
  TEST_CASE("a loss that is not finite stops the run and says where") {
    for (const double limit : {0.0, 1.0}) {
      CAPTURE(limit);
      const TemporaryFolder folder;
      TrainingArguments args = descent_args(folder);
      args.max_grad_norm = limit;
      Regression model;
      Trainer trainer(model, args, {.train_dataset = third_is_nan()});
      silence(trainer);
      const std::string message = error_of([&] { trainer.train(); });
      CHECK(contains_text(message, "step 2"));
      CHECK(contains_text(message, "first of 2 parameters"));
      CHECK(contains_text(message, " a"));
      CHECK(contains_text(message, "nonfinite_policy"));
      CHECK(std::isfinite(model.a.item<double>()));
    }
  }

  TEST_CASE("or is left out, or trained on") {
    const TemporaryFolder folder;
    TrainingArguments args = descent_args(folder);
    args.nonfinite_policy = NonfinitePolicy::skip;
    args.lr_scheduler_type = SchedulerType::linear;
    args.logging_strategy = IntervalStrategy::steps;
    args.logging_steps = 1;
    Regression model;
    Trainer trainer(model, args, {.train_dataset = third_is_nan(6)});
    silence(trainer);
    {
      const LogCapture log;
      CHECK(trainer.train().global_step == 3);
      REQUIRE_FALSE(log.messages.empty());
      CHECK(contains_text(log.messages[0], "step 2"));
      CHECK(contains_text(log.messages[0], "left out"));
    }
    // The schedule waits for the step that was left out.
    CHECK(logged(trainer.state(), "learning_rate").at(2) == Approx(0.1 * 2 / 3));
    Line line = descend({}, line_loss(Line{}, 0, 2), 0.1);
    line = descend(line, line_loss(line, 4, 6), 0.1 * 2 / 3);
    CHECK(model.a.item<double>() == Approx(line.a).epsilon(1e-12));
    CHECK(model.b.item<double>() == Approx(line.b).epsilon(1e-12));

    args.nonfinite_policy = NonfinitePolicy::continue_;
    Regression careless;
    Trainer going_on(careless, args, {.train_dataset = third_is_nan(6)});
    silence(going_on);
    const LogCapture log;
    CHECK(going_on.train().global_step == 3);
    CHECK(std::isnan(careless.a.item<double>()));
    CHECK(log.messages.size() == 1);  // said once, not at every step
  }

  TEST_CASE("auto_find_batch_size goes down by a tenth, from the weights of the beginning") {
    const TemporaryFolder folder, plain_folder;
    TrainingArguments args = descent_args(folder);
    args.learning_rate = 0.01;
    args.auto_find_batch_size = true;
    args.per_device_train_batch_size = 8;
    args.save_strategy = SaveStrategy::steps;
    args.max_steps = 6;
    Hungry model;
    Trainer trainer(model, args, {.train_dataset = line_data(40)});
    silence(trainer);
    {
      const LogCapture quiet;
      CHECK(trainer.train().global_step == 6);
    }
    CHECK(model.sizes == std::vector<int64_t>{8, 7, 6, 5});
    CHECK(trainer.state().train_batch_size == 5);
    CHECK(trainer.args().per_device_train_batch_size == 8);
    Line line;
    for (int step = 0; step < 6; ++step)
      line = descend(line, line_loss(line, 5 * step, 5 * step + 5), 0.01);
    CHECK(model.a.item<double>() == Approx(line.a).epsilon(1e-12));
    CHECK(model.b.item<double>() == Approx(line.b).epsilon(1e-12));

    // A resumed run goes on with the size that was found.
    args.max_steps = 7;
    Hungry again;
    Trainer resumed(again, args, {.train_dataset = line_data(40)});
    silence(resumed);
    resumed.train(Resume::latest());
    CHECK(again.sizes == std::vector<int64_t>{5});
  }

  TEST_CASE("when not even one example fits, or nobody asked, memory is an error") {
    struct Starving : Regression {
      ModelOutput forward(const Batch&) { throw OutOfMemory("[test] no memory for this"); }
    };
    const TemporaryFolder folder;
    TrainingArguments args = descent_args(folder);
    args.auto_find_batch_size = true;
    const LogCapture quiet;
    Starving model;
    Trainer trainer(model, args, {.train_dataset = line_data(4)});
    silence(trainer);
    CHECK(contains_text(error_of([&] { trainer.train(); }), "no memory for this"));
    args.auto_find_batch_size = false;
    Trainer plain(model, args, {.train_dataset = line_data(4)});
    silence(plain);
    CHECK_THROWS_AS(plain.train(), OutOfMemory);
  }

  TEST_CASE("options that cannot work are refused at construction") {
    CHECK(contains_text(refusal([](TrainingArguments& args, TrainerOptions&) {
                          args.save_strategy = SaveStrategy::best;
                          args.eval_strategy = IntervalStrategy::steps;
                          args.metric_for_best_model = std::nullopt;
                        }),
                        "metric_for_best_model"));
    CHECK(contains_text(refusal([](TrainingArguments& args, TrainerOptions&) {
                          args.eval_strategy = IntervalStrategy::steps;
                        }),
                        "eval_dataset"));
    CHECK(contains_text(refusal([](TrainingArguments& args, TrainerOptions& options) {
                          args.batch_eval_metrics = true;
                          options.compute_metrics = [](const EvalPrediction&) { return Metrics{}; };
                        }),
                        "compute_batch_metrics"));
    CHECK(contains_text(refusal([](TrainingArguments&, TrainerOptions& options) {
                          options.train_dataset = std::make_shared<WatchedStreams>(3);
                        }),
                        "max_steps"));
    for (const bool by_flag : {true, false})
      CHECK(contains_text(refusal([&](TrainingArguments& args, TrainerOptions& options) {
                            options.train_dataset = std::make_shared<WatchedStreams>(3);
                            args.max_steps = 3;
                            args.group_by_length = by_flag;
                            if (!by_flag)
                              args.train_sampling_strategy = SamplingStrategy::group_by_length;
                          }),
                          "group_by_length"));
    CHECK(contains_text(
        refusal([](TrainingArguments& args, TrainerOptions&) { args.bf16 = args.fp16 = true; }),
        "fp16"));
    CHECK(refusal([](TrainingArguments&, TrainerOptions&) {}).empty());
  }

  TEST_CASE("models that are not there, or made by something that does not make one") {
    const TemporaryFolder folder;
    const TrainingArguments args = quiet_args(folder);
    CHECK(contains_text(error_of([&] { Trainer trainer(TrainableModel(), args); }), "model"));
    CHECK(contains_text(error_of([&] { Trainer trainer(ModelInit(), args); }), "model_init"));
    const ModelInit none = [] { return TrainableModel(); };
    CHECK(contains_text(error_of([&] { Trainer trainer(none, args); }), "model_init"));
    const ModelInit line = [] { return TrainableModel(std::make_shared<Regression>()); };
    Regression other;
    const auto optimizer = std::make_shared<optim::Sgd>(other.named_parameters());
    CHECK(contains_text(error_of([&] { Trainer trainer(line, args, {.optimizer = optimizer}); }),
                        "model_init"));
    Trainer trainer(other, args);
    CHECK(contains_text(error_of([&] { trainer.train(); }), "train_dataset"));
    CHECK(contains_text(error_of([&] { trainer.evaluate(); }), "eval_dataset"));
  }
}
