// Gradient accumulation: however the examples of a step are cut into batches, the step is the same;
// and what the loss of a step is, with every kind of model.
#include <doctest/doctest.h>

#include <cmath>

#include <tendril/autograd/tape.h>
#include <tendril/nn/linear.h>
#include "trainer/line_fit.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;
using doctest::Approx;

namespace {

constexpr int64_t kTokens = 8, kVocabulary = 16;

// Labels are the tokens, but the first few of example i and here and there another are -100: every
// example has another number of them.
Example uneven_example(int64_t i) {
  std::vector<int64_t> tokens, labels;
  for (int64_t t = 0; t < kTokens; ++t) {
    tokens.push_back((3 * i + t * t + i * t) % kVocabulary);
    labels.push_back(t < i % 7 || (i + t) % 5 == 0 ? -100 : tokens.back());
  }
  return {{"input_ids", Tensor::from(tokens, {kTokens})},
          {"labels", Tensor::from(labels, {kTokens})}};
}

std::shared_ptr<const Dataset> uneven_data(int64_t size) {
  std::vector<Example> examples;
  for (int64_t i = 0; i < size; ++i) examples.push_back(uneven_example(i));
  return std::make_shared<InMemoryDataset>(std::move(examples));
}

std::unique_ptr<nn::models::Gpt2> make_gpt(DType dtype) {
  manual_seed(11);
  auto gpt = std::make_unique<nn::models::Gpt2>(tiny_gpt_config(0.0));
  gpt->to(dtype);
  return gpt;
}

// Sums over positions that count of -log p[label] and of all -log p, in doubles.
struct LogLoss {
  double nll = 0.0, all = 0.0;
  int64_t count = 0;

  void add(const double* logits, int64_t classes, int64_t label) {
    if (label == -100) return;
    double total = 0.0;
    for (int64_t v = 0; v < classes; ++v) total += std::exp(logits[v]);
    for (int64_t v = 0; v < classes; ++v) all += std::log(total) - logits[v];
    nll += std::log(total) - logits[label];
    ++count;
  }
  double mean() const { return nll / static_cast<double>(count); }
  // Label smoothing as section 3.6 has it.
  double smoothed(double epsilon, int64_t classes) const {
    return (1 - epsilon) * mean() + epsilon * all / static_cast<double>(count * classes);
  }
};

// Of examples [begin, end) of uneven_data; position t answers for the label at t + 1.
LogLoss log_loss_of(nn::models::Gpt2& gpt, int64_t begin, int64_t end) {
  const NoGradGuard no_grad;
  LogLoss loss;
  for (int64_t i = begin; i < end; ++i) {
    const Example example = uneven_example(i);
    const auto logits = gpt.forward(unsqueeze(example.at("input_ids"), 0)).to_vector<double>();
    const auto labels = example.at("labels").to_vector<int64_t>();
    for (int64_t t = 0; t + 1 < kTokens; ++t)
      loss.add(&logits[static_cast<size_t>(t * kVocabulary)], kVocabulary,
               labels[static_cast<size_t>(t + 1)]);
  }
  return loss;
}

struct Outcome {
  std::vector<double> weights, losses, norms;
};

using Modify = std::function<void(TrainingArguments&)>;

// Plain gradient descent over 40 examples, twice: steps of 32 and 8 of them.
Outcome train(const TrainableModel& model, int64_t batch_size, int64_t accumulation,
              const Modify& modify = {}, TrainerOptions options = {}) {
  const TemporaryFolder folder;
  TrainingArguments args = quiet_args(folder);
  args.num_train_epochs = 2;
  args.per_device_train_batch_size = batch_size;
  args.gradient_accumulation_steps = accumulation;
  args.train_sampling_strategy = SamplingStrategy::sequential;
  args.optim = "sgd";
  args.learning_rate = 0.5;
  args.lr_scheduler_type = SchedulerType::constant;
  args.logging_strategy = IntervalStrategy::steps;
  args.logging_steps = 1;
  if (modify) modify(args);
  if (!options.train_dataset) options.train_dataset = uneven_data(40);
  Trainer trainer(model, args, std::move(options));
  silence(trainer);
  trainer.train();
  return {all_weights(trainer.model().module()), logged(trainer.state(), "loss"),
          logged(trainer.state(), "grad_norm")};
}

// The largest difference, relative to the size of the numbers as a whole.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0.0, size = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(a[i] - b[i]));
    size = std::max(size, std::abs(b[i]));
  }
  return most / size;
}

double only(const std::vector<double>& values) {
  REQUIRE(values.size() == 1);
  return values[0];
}

// A language model that knows nothing of num_items_in_batch: its loss is its batch's mean.
struct MeanOfBatch : nn::Module {
  std::unique_ptr<nn::models::Gpt2> gpt = make_gpt(f64);
  MeanOfBatch() { add("gpt", *gpt); }
  ModelOutput forward(const Batch& batch) {
    const Tensor logits = gpt->forward(column(batch, "input_ids"));
    return {cross_entropy(logits, causal_targets(batch)), {{"logits", logits}}};
  }
};

// logits = W x for a label each; no loss of its own.
struct Classifier : nn::Module {
  Tensor weight =
      add_parameter("weight", Tensor::from<double>({0.5, -1.0, 0.25, 2.0, 1.0, -0.5}, {3, 2}));
  Tensor forward(const Tensor& x) { return linear(x, weight); }
};

struct ClassifierExample {
  double x[2];
  int64_t label;
};
const std::vector<ClassifierExample> kClassifierExamples = {
    {{1.0, 0.5}, 0}, {{-0.5, 2.0}, 2}, {{0.25, -1.0}, 1}, {{1.5, 1.0}, 2}};

std::shared_ptr<const Dataset> classifier_data() {
  std::vector<Example> examples;
  for (const auto& [x, label] : kClassifierExamples)
    examples.push_back({{"x", Tensor::from<double>({x[0], x[1]}, {2})},
                        {"labels", Tensor::from<int64_t>({label}, {})}});
  return std::make_shared<InMemoryDataset>(std::move(examples));
}

LogLoss classifier_loss() {
  const double w[3][2] = {{0.5, -1.0}, {0.25, 2.0}, {1.0, -0.5}};
  LogLoss loss;
  for (const auto& [x, label] : kClassifierExamples) {
    double logits[3];
    for (int v = 0; v < 3; ++v) logits[v] = w[v][0] * x[0] + w[v][1] * x[1];
    loss.add(logits, 3, label);
  }
  return loss;
}

}  // namespace

TEST_SUITE("trainer_accumulation") {
  TEST_CASE("1 batch of 32, 32 of 1 and 8 of 4 are one and the same step") {
    for (const auto& [dtype, tolerance] : {std::pair{f64, 1e-13}, std::pair{f32, 1e-6}}) {
      CAPTURE(tolerance);
      const auto large_model = make_gpt(dtype);
      const double first_loss = log_loss_of(*large_model, 0, 32).mean();
      const Outcome large = train(*large_model, 32, 1);
      REQUIRE(large.losses.size() == 4);
      CHECK(large.losses[0] == Approx(first_loss).epsilon(tolerance * 10));
      // Weights moved: by far more than they may differ.
      CHECK(distance(large.weights, all_weights(*make_gpt(dtype))) > 1e-2);
      for (const auto& [batch_size, accumulation] : {std::pair{1, 32}, std::pair{4, 8}}) {
        CAPTURE(batch_size);
        const Outcome small = train(*make_gpt(dtype), batch_size, accumulation);
        CHECK(distance(small.weights, large.weights) < tolerance);
        CHECK(distance(small.losses, large.losses) < tolerance);
        CHECK(distance(small.norms, large.norms) < 10 * tolerance);
      }
    }
  }

  TEST_CASE("the last window of a pass is a mean over its own labels") {
    // 5 batches of 4 in windows of 3 and 2. A rate of 0 keeps the model as it is.
    const auto gpt = make_gpt(f64);
    const double first = log_loss_of(*gpt, 0, 12).mean(), last = log_loss_of(*gpt, 12, 20).mean();
    const Outcome outcome = train(*gpt, 4, 3,
                                  [](TrainingArguments& args) {
                                    args.num_train_epochs = 1;
                                    args.learning_rate = 0.0;
                                  },
                                  {.train_dataset = uneven_data(20)});
    REQUIRE(outcome.losses.size() == 2);
    CHECK(outcome.losses[0] == Approx(first).epsilon(1e-12));
    CHECK(outcome.losses[1] == Approx(last).epsilon(1e-12));
  }

  TEST_CASE("a model that does not count labels gets the mean of its batches' means") {
    MeanOfBatch model;
    double mean_of_means = 0.0;
    for (int64_t i = 0; i < 32; i += 4)
      mean_of_means += log_loss_of(*model.gpt, i, i + 4).mean() / 8;
    const double mean_of_all = log_loss_of(*model.gpt, 0, 32).mean();
    CHECK(std::abs(mean_of_means - mean_of_all) > 1e-4);  // or else the test says nothing
    CHECK(train(model, 4, 8).losses[0] == Approx(mean_of_means).epsilon(1e-12));
    MeanOfBatch other;
    CHECK(train(other, 32, 1).losses[0] == Approx(mean_of_all).epsilon(1e-12));
  }

  TEST_CASE("and so does one whose last batch is smaller") {
    // 5 examples in batches of 2, 2 and 1, all in one step.
    Regression model;
    const std::vector<Range> batches = {{0, 2}, {2, 4}, {4, 5}};
    const Line expected = descend({}, line_loss(Line{}, batches), 0.1);
    const Outcome outcome = train(model, 2, 3,
                                  [](TrainingArguments& args) {
                                    args.num_train_epochs = 1;
                                    args.learning_rate = 0.1;
                                    args.max_grad_norm = 0;
                                  },
                                  {.train_dataset = line_data(5)});
    CHECK(only(outcome.losses) == Approx(line_loss(Line{}, batches).loss).epsilon(1e-12));
    CHECK(outcome.weights[0] == Approx(expected.a).epsilon(1e-12));
    CHECK(outcome.weights[1] == Approx(expected.b).epsilon(1e-12));
  }

  TEST_CASE("compute_loss_func divides by the labels of the whole step") {
    std::vector<int64_t> items;
    const ComputeLossFunc per_token = [&](const ModelOutput& outputs, const Batch& batch,
                                          std::optional<int64_t> count) {
      REQUIRE(count);
      items.push_back(*count);
      const Tensor sum = cross_entropy(output(outputs, "logits"), causal_targets(batch),
                                       {.reduction = Reduction::sum});
      return sum / static_cast<double>(*count);
    };
    const Outcome expected = train(*make_gpt(f64), 32, 1);
    const Outcome outcome = train(*make_gpt(f64), 4, 8, {}, {.compute_loss_func = per_token});
    CHECK(distance(outcome.weights, expected.weights) < 1e-13);
    CHECK(distance(outcome.losses, expected.losses) < 1e-13);
    const auto gpt = make_gpt(f64);
    REQUIRE(items.size() == 20);  // batches of two passes
    CHECK(items[0] == log_loss_of(*gpt, 0, 32).count);
    CHECK(items[7] == items[0]);
    CHECK(items[8] == log_loss_of(*gpt, 32, 40).count);
  }

  TEST_CASE("compute_loss_func of a model whose labels are floats counts all of them") {
    Regression model;
    std::vector<int64_t> items;
    const ComputeLossFunc sum_over_all = [&](const ModelOutput& outputs, const Batch& batch,
                                             std::optional<int64_t> count) {
      items.push_back(count.value());
      return sum(square(output(outputs, "logits") - column(batch, "labels"))) /
             static_cast<double>(*count);
    };
    const Outcome outcome =
        train(model, 2, 3, [](TrainingArguments& args) { args.num_train_epochs = 1; },
              {.train_dataset = line_data(5), .compute_loss_func = sum_over_all});
    CHECK(items == std::vector<int64_t>{5, 5, 5});
    CHECK(only(outcome.losses) == Approx(line_loss(Line{}, 0, 5).loss).epsilon(1e-12));
  }

  TEST_CASE("compute_loss_func without labels to count is a mean per batch") {
    // The input is its own target: no labels, so there is no number to divide by.
    std::vector<Example> examples;
    for (int i = 0; i < 3; ++i) examples.push_back({{"x", Tensor::from<double>({1.0 + i}, {1})}});
    Regression model(0.5, 0.0);
    const ComputeLossFunc reconstruction = [&](const ModelOutput& outputs, const Batch& batch,
                                               std::optional<int64_t> count) {
      CHECK_FALSE(count);
      return mean(square(output(outputs, "logits") - column(batch, "x")));
    };
    const Outcome outcome =
        train(model, 2, 2, [](TrainingArguments& args) { args.num_train_epochs = 1; },
              {.train_dataset = std::make_shared<InMemoryDataset>(std::move(examples)),
               .compute_loss_func = reconstruction});
    // (0.5 x)^2 for x = 1, 2 and for x = 3.
    CHECK(only(outcome.losses) == Approx(((0.25 + 1.0) / 2 + 2.25) / 2));
  }

  TEST_CASE("label smoothing of a language model, however it is cut") {
    const double epsilon = 0.2;
    const auto smooth = [&](TrainingArguments& args) { args.label_smoothing_factor = epsilon; };
    const auto gpt = make_gpt(f64);
    const double expected = log_loss_of(*gpt, 0, 32).smoothed(epsilon, kVocabulary);
    CHECK(std::abs(expected - log_loss_of(*gpt, 0, 32).mean()) > 1e-4);
    const Outcome large = train(*gpt, 32, 1, smooth);
    CHECK(large.losses[0] == Approx(expected).epsilon(1e-12));
    const Outcome small = train(*make_gpt(f64), 4, 8, smooth);
    CHECK(distance(small.weights, large.weights) < 1e-13);
    CHECK(distance(small.losses, large.losses) < 1e-13);
  }

  TEST_CASE("label smoothing of a model that only predicts") {
    Classifier model;
    const auto smooth = [](TrainingArguments& args) {
      args.num_train_epochs = 1;
      args.label_smoothing_factor = 0.3;
    };
    const Outcome one = train(model, 4, 1, smooth, {.train_dataset = classifier_data()});
    CHECK(only(one.losses) == Approx(classifier_loss().smoothed(0.3, 3)).epsilon(1e-12));
    Classifier cut;
    const Outcome two = train(cut, 2, 2, smooth, {.train_dataset = classifier_data()});
    CHECK(distance(two.weights, one.weights) < 1e-13);
    CHECK(distance(two.losses, one.losses) < 1e-13);
    CHECK(one.weights[0] != 0.5);
  }

  TEST_CASE("a step in which no label counts changes nothing") {
    std::vector<Example> examples;
    for (int i = 0; i < 2; ++i) {
      Example example = uneven_example(i);
      example["labels"] = Tensor::from(std::vector<int64_t>(kTokens, -100), {kTokens});
      examples.push_back(std::move(example));
    }
    const auto gpt = make_gpt(f64);
    const std::vector<double> before = all_weights(*gpt);
    const Outcome outcome =
        train(*gpt, 1, 2, {}, {.train_dataset = std::make_shared<InMemoryDataset>(examples)});
    CHECK(outcome.losses == std::vector<double>{0.0, 0.0});
    CHECK(outcome.weights == before);
  }

  TEST_CASE("a model without loss says what it returned") {
    Classifier model;
    const std::string message =
        error_of([&] { train(model, 2, 1, {}, {.train_dataset = classifier_data()}); });
    CHECK(contains_text(message, "no loss"));
    CHECK(contains_text(message, "logits"));
    CHECK(contains_text(message, "labels, x"));
  }
}
