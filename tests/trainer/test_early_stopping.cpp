#include <doctest/doctest.h>

#include <cmath>

#include <tendril/core/error.h>
#include <tendril/trainer/callbacks/default_flow.h>
#include <tendril/trainer/callbacks/early_stopping.h>

#include "test_tools.h"
#include "trainer/callback_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// Evaluates as the Trainer does: callbacks first, then the best metric moves.
class EvaluatingRun : public HandDriven {
 public:
  EvaluatingRun(std::shared_ptr<EarlyStoppingCallback> stopping, const std::string& metric,
                bool greater_is_better)
      : metric_(metric.starts_with("eval_") ? metric : "eval_" + metric) {
    args.metric_for_best_model = metric;
    args.greater_is_better = greater_is_better;
    args.eval_strategy = IntervalStrategy::steps;
    args.load_best_model_at_end = true;
    handler.add(std::make_shared<DefaultFlowCallback>());
    handler.add(std::move(stopping));
    fire(&TrainerCallback::on_train_begin);
  }

  /// Which of the evaluations ended training, counted from 1; 0: none.
  int stopped_by(const std::vector<double>& values) {
    for (size_t i = 0; i < values.size(); ++i) {
      evaluate({{metric_, values[i]}});
      const bool best =
          !state.best_metric || (*args.greater_is_better ? values[i] > *state.best_metric
                                                         : values[i] < *state.best_metric);
      if (best) state.best_metric = values[i];
      if (control.should_training_stop) return static_cast<int>(i) + 1;
    }
    return 0;
  }

 private:
  std::string metric_;
};

int stop_of_loss(int64_t patience, double threshold, const std::vector<double>& losses) {
  EvaluatingRun run(std::make_shared<EarlyStoppingCallback>(patience, threshold), "loss", false);
  return run.stopped_by(losses);
}

}  // namespace

TEST_SUITE_BEGIN("early_stopping");

TEST_CASE("training ends after patience evaluations in a row without a gain") {
  CHECK(stop_of_loss(1, 0.0, {1.0, 1.1}) == 2);
  CHECK(stop_of_loss(2, 0.0, {1.0, 1.1, 0.9, 1.2, 1.3}) == 5);
  CHECK(stop_of_loss(2, 0.0, {1.0, 0.9, 0.8, 0.7}) == 0);
  // Equal is no gain, and what counts is the best one, not the last one.
  CHECK(stop_of_loss(2, 0.0, {1.0, 1.0, 1.0}) == 3);
  CHECK(stop_of_loss(2, 0.0, {1.0, 1.5, 1.2}) == 3);
  // The first one always counts as a gain.
  CHECK(stop_of_loss(1, 0.0, {100.0}) == 0);
}

TEST_CASE("the threshold is compared with a best that moves with every gain") {
  // Each is better by 0.05, which is below the threshold, although all together are not.
  CHECK(stop_of_loss(3, 0.1, {1.0, 0.95, 0.90, 0.85}) == 4);
  CHECK(stop_of_loss(3, 0.04, {1.0, 0.95, 0.90, 0.85}) == 0);
  // A gain of exactly the threshold is none (0.5 and 0.25 are exact).
  CHECK(stop_of_loss(1, 0.25, {0.5, 0.25}) == 2);
}

TEST_CASE("greater may be better, and eval_ may be part of the name") {
  EvaluatingRun run(std::make_shared<EarlyStoppingCallback>(2), "eval_accuracy", true);
  CHECK(run.stopped_by({0.5, 0.6, 0.55, 0.6}) == 4);
}

TEST_CASE("NaN is no gain") { CHECK(stop_of_loss(2, 0.0, {1.0, std::nan(""), std::nan("")}) == 3); }

TEST_CASE("an evaluation without the metric gives a warning and does not count") {
  EvaluatingRun run(std::make_shared<EarlyStoppingCallback>(1), "accuracy", true);
  run.state.best_metric = 0.5;
  LogCapture log;
  run.evaluate({{"eval_loss", 1.0}});
  REQUIRE(log.messages.size() == 1);
  CHECK(contains(log.messages[0], "eval_accuracy"));
  CHECK_FALSE(run.control.should_training_stop);
  run.evaluate({{"eval_accuracy", 0.25}});
  CHECK(run.control.should_training_stop);
}

TEST_CASE("training cannot begin without a metric and evaluations") {
  EarlyStoppingCallback stopping;
  HandDriven run;
  const auto complaint = [&] {
    CallbackContext c = run.context();
    return message_of([&] { stopping.on_train_begin(c); });
  };
  CHECK(contains(complaint(), "metric_for_best_model"));
  run.args.metric_for_best_model = "loss";
  CHECK(contains(complaint(), "eval_strategy"));
  run.args.eval_strategy = IntervalStrategy::epoch;
  LogCapture log;
  CHECK(complaint().empty());
  REQUIRE(log.messages.size() == 1);
  CHECK(contains(log.messages[0], "load_best_model_at_end"));
  run.args.load_best_model_at_end = true;
  CHECK(complaint().empty());
  CHECK(log.messages.size() == 1);
}

TEST_CASE("options out of range are errors") {
  CHECK(contains(message_of([] { EarlyStoppingCallback(0); }), "at least 1; got 0"));
  CHECK(contains(message_of([] { EarlyStoppingCallback(1, -0.5); }), "got -0.5"));
}

TEST_CASE("the count survives a checkpoint") {
  const auto stopping = std::make_shared<EarlyStoppingCallback>(3, 0.0);
  EvaluatingRun first(stopping, "loss", false);
  CHECK(first.stopped_by({1.0, 1.1, 1.2}) == 0);
  CHECK(stopping->state().dump() ==
        R"({"args":{"early_stopping_patience":3,"early_stopping_threshold":0.0},)"
        R"("attributes":{"early_stopping_patience_counter":2}})");

  const auto resumed = std::make_shared<EarlyStoppingCallback>(9, 0.5);
  resumed->load_state(Json::parse(stopping->state().dump(), "test"));
  EvaluatingRun second(resumed, "loss", false);
  second.state.best_metric = first.state.best_metric;
  CHECK(second.stopped_by({1.05}) == 1);
}

TEST_SUITE_END();
