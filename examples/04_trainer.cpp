// The Trainer: a model of your own, a loss of your own, a callback of your own, early stopping and
// the best model at the end.
#include <tendril/tendril.h>

#include <filesystem>
#include <iostream>

using namespace tendril;

// Two interleaved half circles, a classic that no straight line separates. Class 1 is rare.
std::shared_ptr<const Dataset> moons(int64_t count, uint64_t seed) {
  const RandomKey key{seed, 0, Stream::data};
  std::vector<Example> examples;
  for (int64_t i = 0; i < count; ++i) {
    const auto n = static_cast<uint64_t>(i);
    const auto noise = normal_from_bits(key.bits(4 * n), key.bits(4 * n + 1));
    const double angle = 3.141592653589793 * uniform_from_bits(key.bits(4 * n + 2));
    const bool rare = i % 5 == 0;
    const double x = rare ? 1.0 - std::cos(angle) : std::cos(angle);
    const double y = rare ? 0.5 - std::sin(angle) : std::sin(angle);
    examples.push_back({{"x", Tensor::from({static_cast<float>(x + 0.1 * noise[0]),
                                            static_cast<float>(y + 0.1 * noise[1])},
                                           {2})},
                        {"labels", Tensor::from<int64_t>({rare}, {})}});
  }
  return std::make_shared<InMemoryDataset>(std::move(examples));
}

struct Classifier : nn::Module {
  nn::Linear in{2, 32}, hidden{32, 32}, out{32, 2};
  Classifier() { add("in", in), add("hidden", hidden), add("out", out); }
  Tensor forward(const Tensor& x) { return out(relu(hidden(relu(in(x))))); }
};

// The rare class counts four times.
struct WeightedTrainer : Trainer {
  using Trainer::Trainer;
  LossOutput compute_loss(const TrainableModel& model, Batch& inputs, const LossRequest&) override {
    const Tensor labels = column(inputs, "labels");
    const ModelOutput outputs = model(inputs);
    const Tensor loss =
        cross_entropy(output(outputs, "logits"), labels, {.reduction = Reduction::none});
    const Tensor weight = index_select(Tensor::from({1.f, 4.f}, {2}), 0, labels);
    return {.loss = sum(loss * weight) / sum(weight), .outputs = outputs};
  }
};

// Stops for good when a number of steps without progress have gone by.
struct StopAtLoss : TrainerCallback {
  double loss;
  explicit StopAtLoss(double loss) : loss(loss) {}
  void on_evaluate(CallbackContext& c) override {
    if (c.metrics->at("eval_loss") < loss) c.control.should_training_stop = true;
  }
};

double accuracy(const EvalPrediction& prediction) {
  const Tensor hits = eq(argmax(prediction.predictions, 1), prediction.label_ids);
  return mean(to(hits, f64)).item<double>();
}

int main() {
  const std::filesystem::path out = std::filesystem::temp_directory_path() / "tendril_04_trainer";
  TrainingArguments args;
  args.output_dir = out.string();
  args.num_train_epochs = 30;
  args.per_device_train_batch_size = 32;
  args.learning_rate = 1e-2;
  args.eval_strategy = IntervalStrategy::epoch;
  args.save_strategy = SaveStrategy::epoch;
  args.logging_strategy = IntervalStrategy::epoch;
  args.save_total_limit = 1;
  args.load_best_model_at_end = true;
  args.metric_for_best_model = "accuracy";

  manual_seed(1);
  Classifier model;
  WeightedTrainer trainer(model, args,
                          {.train_dataset = moons(500, 1),
                           .eval_dataset = moons(200, 2),
                           .compute_metrics = [](const EvalPrediction& p) {
                             return Metrics{{"accuracy", accuracy(p)}};
                           }});
  trainer.add_callback<EarlyStoppingCallback>(/*patience=*/5);
  trainer.add_callback<StopAtLoss>(0.005);
  trainer.train();
  const Metrics metrics = trainer.evaluate();
  std::cout << "accuracy " << metrics.at("eval_accuracy") << " after "
            << trainer.state().global_step
            << " steps, best of all evaluations: " << trainer.state().best_metric.value() << "\n";
  std::filesystem::remove_all(out);
  return metrics.at("eval_accuracy") > 0.95 ? 0 : 1;
}
