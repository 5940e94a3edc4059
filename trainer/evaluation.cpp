// Trainer::evaluate() and predict().
#include <tendril/autograd/autocast.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/log.h>
#include <tendril/trainer/distribution.h>
#include <tendril/trainer/evaluated_weights.h>
#include <tendril/trainer/memory_metrics.h>
#include <tendril/trainer/prediction_collector.h>
#include <tendril/trainer/rounded.h>
#include <tendril/trainer/trainer.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace tendril {
namespace {

using Clock = std::chrono::steady_clock;

void add_speed(Metrics& metrics, const std::string& prefix, Clock::time_point start,
               int64_t samples, int64_t batches) {
  const double seconds =
      std::max(std::chrono::duration<double>(Clock::now() - start).count(), 1e-9);
  metrics[prefix + "_runtime"] = rounded(seconds, 4);
  metrics[prefix + "_samples_per_second"] = rounded(static_cast<double>(samples) / seconds, 3);
  metrics[prefix + "_steps_per_second"] = rounded(static_cast<double>(batches) / seconds, 3);
}

void add_prefixed(Metrics& metrics, const std::string& prefix, const Metrics& more) {
  for (const auto& [name, value] : more)
    metrics[name.starts_with(prefix + "_") ? name : prefix + "_" + name] = value;
}

// The model in evaluation mode, and in 16 bits where asked for; as it was before when this goes.
// (The original leaves a model in 16 bits behind.)
class EvaluationMode {
 public:
  EvaluationMode(nn::Module& model, std::optional<DType> dtype)
      : model_(model), was_training_(model.training()) {
    model.eval();
    if (!dtype) return;
    for (const Tensor& parameter : model.parameters())
      originals_.emplace_back(parameter, parameter.detach());
    for (const NamedTensor& buffer : model.named_buffers())
      originals_.emplace_back(buffer.tensor, buffer.tensor.detach());
    model.to(*dtype);
  }
  ~EvaluationMode() {
    for (auto& [tensor, original] : originals_) tensor.set_data(original);
    model_.train(was_training_);
  }

 private:
  nn::Module& model_;
  bool was_training_;
  std::vector<std::pair<Tensor, Tensor>> originals_;
};

}  // namespace

Metrics Trainer::evaluate(const EvalDatasets& eval_dataset, const std::string& prefix) {
  const EvalDatasets& sets = eval_dataset.empty() ? options_.eval_dataset : eval_dataset;
  if (sets.named().empty()) return evaluate_one(sets.single(), prefix);
  Metrics merged;
  for (const auto& [name, dataset] : sets.named())
    merged.merge(evaluate_one(dataset, prefix + "_" + name));
  return merged;
}

Metrics Trainer::evaluate_one(const std::shared_ptr<const Dataset>& dataset,
                              const std::string& prefix) {
  const auto start = Clock::now();
  const MemoryMetrics memory(loop_ ? std::string() : "eval", args_, model_.module());
  eval_dataloader_ = get_eval_dataloader(dataset);
  const bool metrics_wanted = options_.compute_metrics || options_.compute_batch_metrics;
  EvalLoopOutput output = run_evaluation(eval_dataloader_, "Evaluation",
                                         args_.prediction_loss_only || !metrics_wanted, prefix);
  add_speed(output.metrics, prefix, start, output.num_samples, output.num_batches);
  output.metrics.merge(memory.finish());
  output.metrics = distribution_->of_first(output.metrics);  // decisions follow from them
  Json row = Json::object();
  for (const auto& [name, value] : output.metrics) row.set(name, json_number(value));
  log(std::move(row));
  CallbackContext c = context();
  c.metrics = &output.metrics;
  callbacks_.call(&TrainerCallback::on_evaluate, c);
  if (state_.epoch) output.metrics["epoch"] = *state_.epoch;
  return output.metrics;
}

PredictionOutput Trainer::predict(const std::shared_ptr<const Dataset>& test_dataset,
                                  const std::string& prefix) {
  const auto start = Clock::now();
  const MemoryMetrics memory("test", args_, model_.module());
  EvalLoopOutput output = run_evaluation(get_test_dataloader(test_dataset), "Prediction",
                                         args_.prediction_loss_only, prefix);
  add_speed(output.metrics, prefix, start, output.num_samples, output.num_batches);
  output.metrics.merge(memory.finish());
  CallbackContext c = context();
  c.metrics = &output.metrics;
  callbacks_.call(&TrainerCallback::on_predict, c);
  return {output.prediction.predictions, output.prediction.label_ids, output.metrics};
}

EvalLoopOutput Trainer::run_evaluation(const std::shared_ptr<DataLoader>& loader,
                                       const std::string& description, bool loss_only,
                                       const std::string& prefix) {
  std::optional<DType> dtype;  // while training the weights stay what the optimizer knows
  if (!loop_ && args_.bf16_full_eval) dtype = bf16;
  if (!loop_ && args_.fp16_full_eval) dtype = f16;
  const NoGradGuard no_grad;
  const EvaluatedWeights weights(loop_ ? optimizer_.get() : nullptr);
  const CallbackWeights callback_weights(callbacks_, model_.module());
  const EvaluationMode mode(model_.module(), dtype);
  return evaluation_loop(*loader, description, loss_only, prefix);
}

namespace {

// A batch's first examples.
Batch first_examples(const Batch& batch, int64_t count) {
  Batch shorter = batch;
  for (auto& [name, tensor] : shorter) tensor = slice(tensor, 0, 0, count);
  return shorter;
}

}  // namespace

EvalLoopOutput Trainer::evaluation_loop(DataLoader& dataloader, const std::string& description,
                                        bool prediction_loss_only, const std::string& prefix) {
  log_info("***** Running ", description, " *****");
  PredictionCollector collector(args_, *distribution_, options_.compute_batch_metrics);
  EvalLoopOutput output;
  double loss_sum = 0.0, weight_sum = 0.0;
  const std::unique_ptr<BatchStream> stream = dataloader.iterate(0);
  std::optional<Batch> next = stream->next();
  while (next) {
    Batch batch = std::move(*next);
    next = stream->next();
    int64_t examples = batch.empty() ? 0 : batch.begin()->second.size(0);
    const int64_t real = distribution_->real_examples(dataloader, output.num_batches, examples);
    if (real > 0 && real < examples) batch = first_examples(batch, real);
    const bool counts = real > 0 || examples == 0;  // else it only keeps the others company
    examples = real;
    // The mean over all positions that count, however they are spread over batches; over examples
    // where the model does not say which count.
    const auto weight = static_cast<double>(model_.count_items(batch).value_or(examples));
    const PredictionStep step = prediction_step(model_, batch, prediction_loss_only);
    if (step.loss.defined() && counts) {
      const auto loss = step.loss.item<double>();
      if (weight > 0.0) loss_sum += loss * weight;
      weight_sum += weight;
    }
    if (!prediction_loss_only) collector.add(step, batch, examples, /*last=*/!next.has_value());
    output.num_samples += examples;
    ++output.num_batches;
    CallbackContext c = context();
    c.prediction_steps = dataloader.size();
    callbacks_.call(&TrainerCallback::on_prediction_step, c);
  }
  const std::vector<double> sums =
      distribution_->sum({loss_sum, weight_sum, static_cast<double>(output.num_samples)});
  if (sums[1] > 0.0) output.metrics[prefix + "_loss"] = sums[0] / sums[1];
  output.num_samples = static_cast<int64_t>(sums[2]);
  output.prediction = collector.finish();
  if (args_.batch_eval_metrics)
    add_prefixed(output.metrics, prefix, collector.batch_metrics());
  else if (options_.compute_metrics && !prediction_loss_only)
    add_prefixed(output.metrics, prefix, options_.compute_metrics(output.prediction));
  return output;
}

PredictionStep Trainer::prediction_step(const TrainableModel& model, Batch& inputs,
                                        bool prediction_loss_only) {
  const NoGradGuard no_grad;
  const AutocastGuard autocast(autocast_dtype());
  inputs = to_device(std::move(inputs));
  PredictionStep step;
  step.labels = labels_of(inputs, args_.label_names);
  LossOutput output;
  if (step.labels.defined()) {
    output = compute_loss(
        model, inputs,
        {.label_smoothing = args_.label_smoothing_factor, .return_outputs = !prediction_loss_only});
  } else {  // a model may know its loss without labels
    output.outputs = model(inputs, {.return_outputs = true});
    output.loss = output.outputs.loss;
  }
  if (output.loss.defined()) step.loss = mean(output.loss);
  if (prediction_loss_only) return step;
  for (const auto& [name, tensor] : output.outputs.outputs) {
    if (!step.logits.defined())
      step.logits = tensor;
    else
      step.other_outputs[name] = tensor;
  }
  if (step.logits.defined() && options_.preprocess_logits_for_metrics)
    step.logits = options_.preprocess_logits_for_metrics(step.logits, step.labels);
  return step;
}

}  // namespace tendril
