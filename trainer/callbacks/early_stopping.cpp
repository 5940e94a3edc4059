#include <tendril/trainer/callbacks/early_stopping.h>

#include <cmath>

#include <tendril/core/error.h>
#include <tendril/core/log.h>

namespace tendril {

EarlyStoppingCallback::EarlyStoppingCallback(int64_t patience, double threshold)
    : patience_(patience), threshold_(threshold) {
  TENDRIL_CHECK(patience >= 1, "[early_stopping] patience must be at least 1; got ", patience);
  TENDRIL_CHECK(threshold >= 0.0, "[early_stopping] threshold must not be negative; got ",
                threshold);
}

void EarlyStoppingCallback::on_train_begin(CallbackContext& context) {
  const TrainingArguments& args = context.args;
  TENDRIL_CHECK(args.effective_metric_for_best_model(),
                "[early_stopping] metric_for_best_model is not set; name the metric to watch");
  TENDRIL_CHECK(args.eval_strategy != IntervalStrategy::no,
                "[early_stopping] eval_strategy is no, so there is nothing to watch; set it to "
                "steps or epoch");
  if (!args.load_best_model_at_end)
    log_warning(
        "[early_stopping] load_best_model_at_end is off: training will end with the last weights, "
        "not with the best");
}

void EarlyStoppingCallback::on_evaluate(CallbackContext& context) {
  const std::optional<std::string> wanted = context.args.effective_metric_for_best_model();
  if (!wanted || !context.metrics) return;  // an evaluation outside of training
  const std::string name = wanted->starts_with("eval_") ? *wanted : "eval_" + *wanted;
  const auto found = context.metrics->find(name);
  if (found == context.metrics->end()) {
    log_warning("[early_stopping] this evaluation has no \"", name, "\" and does not count");
    return;
  }
  const double value = found->second;
  const std::optional<double>& best = context.state.best_metric;
  // NaN is neither: it is never a gain.
  const auto better = [&] {
    return context.args.effective_greater_is_better() ? value > *best : value < *best;
  };
  const bool gained = !best || (better() && std::abs(value - *best) > threshold_);
  evaluations_without_gain_ = gained ? 0 : evaluations_without_gain_ + 1;
  if (evaluations_without_gain_ >= patience_) context.control.should_training_stop = true;
}

Json EarlyStoppingCallback::state() const {
  return Json::object()
      .set("args", Json::object()
                       .set("early_stopping_patience", patience_)
                       .set("early_stopping_threshold", json_number(threshold_)))
      .set("attributes",
           Json::object().set("early_stopping_patience_counter", evaluations_without_gain_));
}

void EarlyStoppingCallback::load_state(const Json& state) {
  const Json& args = state.at("args");
  patience_ = args.at("early_stopping_patience").as_int();
  threshold_ = args.at("early_stopping_threshold").as_double();
  evaluations_without_gain_ = state.at("attributes").at("early_stopping_patience_counter").as_int();
}

}  // namespace tendril
