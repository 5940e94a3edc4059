#include <tendril/autograd/functions.h>
#include <tendril/trainer/prediction_collector.h>
#include <tendril/trainer/trainable_model.h>

#include <algorithm>

namespace tendril {
namespace {

void keep(std::vector<Tensor>& list, const Tensor& tensor) {
  if (tensor.defined()) list.push_back(tensor);
}

void to_cpu(std::vector<Tensor>& list) {
  for (Tensor& tensor : list) tensor = to(tensor, Device::cpu());
}

}  // namespace

Tensor labels_of(const Batch& batch, const std::optional<std::vector<std::string>>& names) {
  static const std::vector<std::string> kUsual = {kLabels, kShiftLabels};
  for (const std::string& name : names ? *names : kUsual)
    if (const auto found = batch.find(name); found != batch.end()) return found->second;
  return {};
}

Tensor pad_and_concatenate(const std::vector<Tensor>& parts) {
  if (parts.empty()) return {};
  if (parts.front().rank() < 2) return cat(parts, 0);
  int64_t longest = 0;
  for (const Tensor& part : parts) longest = std::max(longest, part.size(1));
  std::vector<Tensor> padded;
  for (const Tensor& part : parts) {
    std::vector<int64_t> padding(static_cast<size_t>(2 * part.rank()), 0);
    padding[3] = longest - part.size(1);
    padded.push_back(padding[3] == 0 ? part : pad(part, padding, -100.0));
  }
  return cat(padded, 0);
}

PredictionCollector::PredictionCollector(const TrainingArguments& args,
                                         const Distribution& distribution,
                                         ComputeBatchMetrics batch_metrics)
    : args_(args), distribution_(distribution), compute_batch_(std::move(batch_metrics)) {}

bool PredictionCollector::includes(const std::string& what) const {
  return std::count(args_.include_for_metrics.begin(), args_.include_for_metrics.end(), what) > 0;
}

void PredictionCollector::add(const PredictionStep& step, const Batch& inputs, int64_t examples,
                              bool last) {
  for (const auto& [name, tensor] : step.other_outputs) {
    std::vector<Tensor>& list = kept_.others[name];  // known to all processes, also when empty
    if (examples > 0) keep(list, tensor);
  }
  if (examples > 0) {
    keep(kept_.logits, step.logits);
    keep(kept_.labels, step.labels);
    if (includes("inputs")) keep(kept_.inputs, detail::main_input(inputs));
    if (includes("loss") && step.loss.defined())
      kept_.losses.push_back(full({examples}, step.loss.item<double>()));
  }
  ++batches_;
  if (args_.eval_accumulation_steps && batches_ % *args_.eval_accumulation_steps == 0)
    move_to_cpu();
  if (!args_.batch_eval_metrics || !compute_batch_) return;
  metrics_ = compute_batch_(finish(), last);
}

void PredictionCollector::move_to_cpu() {
  for (auto* list : {&kept_.logits, &kept_.labels, &kept_.inputs, &kept_.losses}) to_cpu(*list);
  for (auto& [name, list] : kept_.others) to_cpu(list);
}

void PredictionCollector::gather() {
  if (distribution_.size() == 1) return;
  for (auto* list : {&kept_.logits, &kept_.labels, &kept_.inputs, &kept_.losses})
    *list = distribution_.gather_batches(*list);
  for (auto& [name, list] : kept_.others) list = distribution_.gather_batches(list);
}

EvalPrediction PredictionCollector::finish() {
  move_to_cpu();
  gather();
  EvalPrediction result;
  if (!args_.eval_do_concat_batches) {
    for (size_t i = 0; i < kept_.logits.size(); ++i)
      result.batches.push_back(
          {kept_.logits[i], i < kept_.labels.size() ? kept_.labels[i] : Tensor()});
  } else {
    result.predictions = pad_and_concatenate(kept_.logits);
    result.label_ids = pad_and_concatenate(kept_.labels);
    for (const auto& [name, list] : kept_.others)
      result.other_predictions[name] = pad_and_concatenate(list);
  }
  result.inputs = pad_and_concatenate(kept_.inputs);
  result.losses = pad_and_concatenate(kept_.losses);
  kept_ = {};
  return result;
}

}  // namespace tendril
