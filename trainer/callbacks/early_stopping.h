// Ends training when evaluations no longer get better.
#pragma once

#include <tendril/trainer/callback.h>

namespace tendril {

/// Stops after `patience` evaluations in a row that were not better than the best one before by
/// more than `threshold`. The metric and its direction are metric_for_best_model and
/// greater_is_better.
///
/// It runs before the Trainer takes the evaluation into best_metric, and an improvement below the
/// threshold is still taken there: slow creep is measured against a best that moves along. The
/// first evaluation always counts as better. The count is saved in checkpoints.
class TENDRIL_API EarlyStoppingCallback : public TrainerCallback {
 public:
  /// Error unless patience is at least 1 and threshold is not negative.
  explicit EarlyStoppingCallback(int64_t patience = 1, double threshold = 0.0);

  /// Error when there is no metric_for_best_model, or eval_strategy is no.
  void on_train_begin(CallbackContext& context) override;
  void on_evaluate(CallbackContext& context) override;

  /// As the Hugging Face Trainer saves it, so that checkpoints go both ways.
  Json state() const override;
  void load_state(const Json& state) override;

 private:
  int64_t patience_;
  double threshold_;
  int64_t evaluations_without_gain_ = 0;
};

}  // namespace tendril
