// What evaluation takes and gives.
#pragma once

#include <concepts>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <tendril/trainer/batch.h>
#include <tendril/trainer/callback.h>
#include <tendril/trainer/data/dataset.h>

namespace tendril {

/// What compute_metrics sees. Tensors are on the CPU, in the order of the dataset; rows of unequal
/// length on axis 1 are padded with -100. With eval_do_concat_batches = false each is the list of
/// the batches' tensors instead, in `batches`.
struct EvalPrediction {
  Tensor predictions;  // the first output, or what preprocess_logits_for_metrics made of it
  Tensor label_ids;    // undefined without labels
  Tensor inputs;       // include_for_metrics "inputs": the main input
  Tensor losses;       // include_for_metrics "loss": one per example (its batch's mean)
  std::map<std::string, Tensor> other_predictions;  // the model's further outputs
  struct BatchPrediction {
    Tensor predictions, label_ids;
  };
  std::vector<BatchPrediction> batches;
};

using ComputeMetrics = std::function<Metrics(const EvalPrediction& prediction)>;
/// With batch_eval_metrics: called with each batch; `compute_result` is true on the last, and only
/// then does the result count.
using ComputeBatchMetrics =
    std::function<Metrics(const EvalPrediction& batch, bool compute_result)>;
using PreprocessLogits = std::function<Tensor(const Tensor& logits, const Tensor& labels)>;

/// One evaluation set, or several by name ("eval_<name>_loss").
class EvalDatasets {
 public:
  EvalDatasets() = default;
  template <std::derived_from<Dataset> D>
  EvalDatasets(std::shared_ptr<D> dataset) : single_(std::move(dataset)) {}
  EvalDatasets(std::map<std::string, std::shared_ptr<const Dataset>> named)
      : named_(std::move(named)) {}

  bool empty() const { return !single_ && named_.empty(); }
  const std::shared_ptr<const Dataset>& single() const { return single_; }
  const std::map<std::string, std::shared_ptr<const Dataset>>& named() const { return named_; }

 private:
  std::shared_ptr<const Dataset> single_;
  std::map<std::string, std::shared_ptr<const Dataset>> named_;
};

/// Result of prediction_step on one batch: off the tape; undefined where there is none.
struct PredictionStep {
  Tensor loss, logits, labels;
  std::map<std::string, Tensor> other_outputs;
};

struct EvalLoopOutput {
  EvalPrediction prediction;  // empty with prediction_loss_only
  Metrics metrics;            // "eval_loss", then what compute_metrics gave, all with the prefix
  int64_t num_samples = 0, num_batches = 0;
};

struct PredictionOutput {
  Tensor predictions, label_ids;
  Metrics metrics;
};

}  // namespace tendril
