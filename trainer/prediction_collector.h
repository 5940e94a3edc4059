// Gathers what an evaluation predicts, batch by batch.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <tendril/trainer/distribution.h>
#include <tendril/trainer/evaluation.h>
#include <tendril/trainer/training_arguments.h>

namespace tendril {

class PredictionCollector {
 public:
  PredictionCollector(const TrainingArguments& args, const Distribution& distribution,
                      ComputeBatchMetrics batch_metrics);

  /// With batch_eval_metrics the batch, with those of the other processes, goes to the metrics and
  /// nothing is kept. A batch without examples adds nothing.
  void add(const PredictionStep& step, const Batch& inputs, int64_t examples, bool last);
  /// Of all processes, in the order of the dataset.
  EvalPrediction finish();
  /// What the last call of the batch metrics returned.
  const Metrics& batch_metrics() const { return metrics_; }

 private:
  struct Kept {
    std::vector<Tensor> logits, labels, inputs, losses;
    std::map<std::string, std::vector<Tensor>> others;
  };
  void move_to_cpu();
  void gather();
  bool includes(const std::string& what) const;

  const TrainingArguments& args_;
  const Distribution& distribution_;
  ComputeBatchMetrics compute_batch_;
  Kept kept_;
  int64_t batches_ = 0;
  Metrics metrics_;
};

/// The labels of a batch: the first of `names` that it has (by default labels, then shift_labels);
/// undefined without any.
Tensor labels_of(const Batch& batch, const std::optional<std::vector<std::string>>& names);

/// One after the other on axis 0; axis 1 is padded with -100 to the longest.
Tensor pad_and_concatenate(const std::vector<Tensor>& parts);

}  // namespace tendril
