// The parts of a Trainer that a program replaces: what each override gets, and that it is used.
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include <tendril/optim/sgd.h>
#include "trainer/callback_tools.h"
#include "trainer/line_fit.h"
#include "trainer/loader_tools.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;
using doctest::Approx;

namespace {

// Four examples in order, batches of 2, a constant rate of 0.1, one pass of 2 steps.
TrainingArguments two_steps(const TemporaryFolder& folder) {
  TrainingArguments args = quiet_args(folder);
  args.num_train_epochs = 1;
  args.per_device_train_batch_size = 2;
  args.train_sampling_strategy = SamplingStrategy::sequential;
  args.learning_rate = 0.1;
  args.lr_scheduler_type = SchedulerType::constant;
  args.optim = "sgd";
  args.max_grad_norm = 0;
  args.logging_strategy = IntervalStrategy::steps;
  args.logging_steps = 1;
  return args;
}

void check_line(const Regression& model, const Line& line) {
  CHECK(std::abs(model.a.item<double>() - line.a) <= 1e-12);
  CHECK(std::abs(model.b.item<double>() - line.b) <= 1e-12);
}

Line after(const std::vector<Range>& batches, double rate = 0.1) {
  Line line;
  for (const Range& batch : batches)
    line = descend(line, line_loss(line, batch.begin, batch.end), rate);
  return line;
}

// Tells the columns of every batch it sees.
struct Watched : Regression {
  std::vector<std::vector<double>> seen;
  std::set<std::string> columns;
  ModelOutput forward(const Batch& batch) {
    seen.push_back(column(batch, "x").to_vector<double>());
    for (const auto& [name, tensor] : batch) columns.insert(name);
    return Regression::forward(batch);
  }
};
struct Choosy : Watched {
  std::vector<std::string> input_names() const { return {"x"}; }
};

}  // namespace

TEST_SUITE("trainer_parts") {
  TEST_CASE("compute_loss: weights of the examples, in training and evaluation") {
    // Examples at and above x = 0.2 count three times.
    struct Weighted : Trainer {
      using Trainer::Trainer;
      LossOutput compute_loss(const TrainableModel& model, Batch& inputs,
                              const LossRequest&) override {
        LossOutput result{.outputs = model(inputs)};
        const Tensor& x = column(inputs, "x");
        const Tensor weight = where(gt(x, 0.15), full_like(x, 3.0), full_like(x, 1.0));
        const Tensor error = output(result.outputs, "logits") - column(inputs, "labels");
        result.loss = sum(weight * square(error)) / sum(weight);
        return result;
      }
    };
    const TemporaryFolder folder;
    TrainingArguments args = two_steps(folder);
    args.per_device_train_batch_size = 4;
    args.per_device_eval_batch_size = 4;
    Regression model;
    Weighted trainer(model, args, {.train_dataset = line_data(4), .eval_dataset = line_data(4)});
    silence(trainer);
    // Labels 1, 1.2, 1.4, 1.6 with weights 1, 1, 3, 3 against a line of zeros.
    const double loss = (1.0 + 1.44 + 3 * 1.96 + 3 * 2.56) / 8;
    CHECK(trainer.evaluate().at("eval_loss") == Approx(loss).epsilon(1e-12));
    trainer.train();
    CHECK(logged(trainer.state(), "loss").at(0) == Approx(loss).epsilon(1e-12));
    const double da = -2 * (0.1 * 1.2 + 3 * 0.2 * 1.4 + 3 * 0.3 * 1.6) / 8;
    const double db = -2 * (1.0 + 1.2 + 3 * 1.4 + 3 * 1.6) / 8;
    check_line(model, {-0.1 * da, -0.1 * db});
  }

  TEST_CASE("compute_loss that ignores the labels of the step counts as its batch's mean") {
    struct Plain : Trainer {
      using Trainer::Trainer;
      LossOutput compute_loss(const TrainableModel& model, Batch& inputs,
                              const LossRequest&) override {
        return {.loss = model(inputs).loss};
      }
    };
    const auto first_loss = [](auto make) {
      const TemporaryFolder folder;
      TrainingArguments args = two_steps(folder);
      args.gradient_accumulation_steps = 4;
      manual_seed(1);
      nn::models::Gpt2 gpt(tiny_gpt_config(0.0));
      const std::unique_ptr<Trainer> trainer = make(gpt, args);
      silence(*trainer);
      trainer->train();
      return logged(trainer->state(), "loss").at(0);
    };
    const double expected = first_loss([](nn::models::Gpt2& gpt, const TrainingArguments& args) {
      return std::make_unique<Trainer>(gpt, args, TrainerOptions{.train_dataset = letters(8)});
    });
    const double plain = first_loss([](nn::models::Gpt2& gpt, const TrainingArguments& args) {
      return std::make_unique<Plain>(gpt, args, TrainerOptions{.train_dataset = letters(8)});
    });
    CHECK(plain == Approx(expected).epsilon(1e-6));  // every example has as many labels
  }

  TEST_CASE("the steps of training and evaluation, the loaders and the log") {
    struct Counting : Trainer {
      using Trainer::Trainer;
      int train_steps = 0, eval_steps = 0, loaders = 0, rows = 0;
      Tensor training_step(const TrainableModel& model, Batch& inputs,
                           std::optional<int64_t> items) override {
        ++train_steps;
        return 2.0 * Trainer::training_step(model, inputs, items);  // of the log alone
      }
      PredictionStep prediction_step(const TrainableModel& model, Batch& inputs,
                                     bool loss_only) override {
        ++eval_steps;
        PredictionStep step = Trainer::prediction_step(model, inputs, loss_only);
        step.loss = step.loss + 1.0;
        return step;
      }
      std::shared_ptr<DataLoader> get_train_dataloader() override {
        ++loaders;
        return Trainer::get_train_dataloader();
      }
      void log(Json logs) override {
        ++rows;
        Trainer::log(logs.set("extra", 7));
      }
      double floating_point_ops(const Batch&) const override { return 5.0; }
    };
    const TemporaryFolder folder;
    TrainingArguments args = two_steps(folder);
    args.eval_strategy = IntervalStrategy::epoch;
    args.per_device_eval_batch_size = 2;
    Regression model;
    Counting trainer(model, args, {.train_dataset = line_data(4), .eval_dataset = line_data(3)});
    silence(trainer);
    const TrainOutput output = trainer.train();
    CHECK(trainer.train_steps == 2);
    CHECK(trainer.eval_steps == 2);
    CHECK(trainer.loaders == 1);
    CHECK(trainer.rows == 4);  // two of steps, an evaluation, the summary
    CHECK(logged(trainer.state(), "extra") == std::vector<double>(4, 7.0));
    CHECK(output.metrics.at("total_flos") == 10.0);
    CHECK(logged(trainer.state(), "loss").at(0) ==
          Approx(2 * line_loss(Line{}, 0, 2).loss).epsilon(1e-12));
    const Line line = after({{0, 2}, {2, 4}});
    check_line(model, line);
    CHECK(logged(trainer.state(), "eval_loss").at(0) ==
          Approx(1 + line_loss(line, 0, 3).loss).epsilon(1e-12));
  }

  TEST_CASE("get_train_sampler decides the order") {
    struct Backwards : Sampler {
      int64_t size() const override { return 4; }
      std::vector<int64_t> indices(int64_t) const override { return {3, 2, 1, 0}; }
    };
    struct Reversed : Trainer {
      using Trainer::Trainer;
      std::shared_ptr<const Sampler> get_train_sampler(const Dataset&) override {
        return std::make_shared<Backwards>();
      }
    };
    const TemporaryFolder folder;
    Watched model;
    Reversed trainer(model, two_steps(folder), {.train_dataset = line_data(4)});
    silence(trainer);
    trainer.train();
    CHECK(model.seen == std::vector<std::vector<double>>{{3 / 10.0, 2 / 10.0}, {1 / 10.0, 0.0}});
    check_line(model, after({{2, 4}, {0, 2}}));
  }

  TEST_CASE("the usual order is random, of data_seed, and another in every pass") {
    const auto order = [](int64_t seed, std::optional<int64_t> data_seed) {
      const TemporaryFolder folder;
      TrainingArguments args = two_steps(folder);
      args.train_sampling_strategy = SamplingStrategy::random;
      args.per_device_train_batch_size = 20;
      args.num_train_epochs = 2;
      args.seed = seed;
      args.data_seed = data_seed;
      Watched model;
      Trainer trainer(model, args, {.train_dataset = line_data(20)});
      silence(trainer);
      trainer.train();
      return model.seen;
    };
    const auto seen = order(1, {});
    REQUIRE(seen.size() == 2);
    CHECK(seen[0] != seen[1]);
    for (const std::vector<double>& pass : seen)
      CHECK(std::set<double>(pass.begin(), pass.end()).size() == 20);
    CHECK(order(1, {}) == seen);
    CHECK(order(2, {}) != seen);
    CHECK(order(2, 1) == seen);
  }

  TEST_CASE("group_by_length begins with the longest and keeps like lengths together") {
    const auto length_of = [](int64_t i) { return (i * 7) % 16; };
    std::vector<Example> examples;
    for (int64_t i = 0; i < 16; ++i)
      examples.push_back({{"x", Tensor::from<double>({static_cast<double>(i)}, {1})},
                          {"labels", Tensor::from<double>({0.0}, {1})},
                          {"length", Tensor::from<int64_t>({length_of(i)}, {})}});
    const TemporaryFolder folder;
    TrainingArguments args = two_steps(folder);
    args.train_sampling_strategy = SamplingStrategy::random;
    args.group_by_length = true;
    args.per_device_train_batch_size = 1;  // pieces of 16 / 4 = 4 batches, each sorted
    args.learning_rate = 0.0;
    Watched model;
    Trainer trainer(model, args,
                    {.train_dataset = std::make_shared<InMemoryDataset>(std::move(examples))});
    silence(trainer);
    trainer.train();
    REQUIRE(model.seen.size() == 16);
    std::vector<int64_t> lengths;
    for (const auto& x : model.seen) lengths.push_back(length_of(std::llround(x[0])));
    CHECK(lengths[0] == 15);
    // The longest has changed places with the first of the first piece.
    for (size_t piece = 0; piece < 16; piece += 4) {
      CHECK(lengths[piece + 1] > lengths[piece + 2]);
      CHECK(lengths[piece + 2] > lengths[piece + 3]);
    }
  }

  TEST_CASE("columns that the model does not read are dropped, labels stay") {
    for (const bool keep : {false, true}) {
      std::vector<Example> examples(2, {{"x", Tensor::from<double>({1.0}, {1})},
                                        {"labels", Tensor::from<double>({1.0}, {1})},
                                        {"note", Tensor::from<double>({5.0}, {1})}});
      const TemporaryFolder folder;
      TrainingArguments args = two_steps(folder);
      args.remove_unused_columns = !keep;
      Choosy model;
      Trainer trainer(model, args, {.train_dataset = std::make_shared<InMemoryDataset>(examples)});
      silence(trainer);
      trainer.train();
      CHECK(model.columns.contains("note") == keep);
      CHECK(model.columns.contains("x"));
      CHECK(model.columns.contains("labels"));
    }
  }

  TEST_CASE("create_optimizer and create_scheduler") {
    struct Halving : optim::LrScheduler {
      double factor(int64_t step) const override { return std::pow(0.5, step); }
    };
    struct Own : Trainer {
      using Trainer::Trainer;
      std::vector<int64_t> scheduled;
      void create_optimizer() override {
        if (optimizer()) return;
        set_optimizer(std::make_shared<optim::Sgd>(model().module().named_parameters(),
                                                   optim::SgdOptions{.lr = 0.2}));
      }
      void create_scheduler(int64_t steps) override {
        scheduled.push_back(steps);
        set_lr_scheduler(std::make_shared<Halving>());
      }
    };
    const TemporaryFolder folder;
    Regression model;
    Own trainer(model, two_steps(folder), {.train_dataset = line_data(4)});
    silence(trainer);
    CHECK(contains_text(error_of([&] { trainer.get_learning_rates(); }), "optimizer"));
    trainer.train();
    const Line half = after({{0, 2}}, 0.2);
    check_line(model, descend(half, line_loss(half, 2, 4), 0.1));
    CHECK(logged(trainer.state(), "learning_rate") == std::vector<double>{0.2, 0.1});
    CHECK(trainer.get_learning_rates() == std::vector<double>{0.2 / 4});
    trainer.train();
    CHECK(trainer.scheduled == std::vector<int64_t>{2, 2});
  }

  TEST_CASE("an optimizer and a schedule from outside are used as they are") {
    const TemporaryFolder folder;
    Regression model;
    const auto sgd =
        std::make_shared<optim::Sgd>(model.named_parameters(), optim::SgdOptions{.lr = 0.05});
    std::shared_ptr<optim::LrScheduler> schedule =
        optim::make_lr_scheduler("linear", {.num_training_steps = 4});
    Trainer trainer(model, two_steps(folder),
                    {.train_dataset = line_data(4), .optimizer = sgd, .lr_scheduler = schedule});
    silence(trainer);
    trainer.train();
    CHECK(trainer.optimizer() == sgd);
    CHECK(trainer.lr_scheduler() == schedule);
    const std::vector<double> rates = logged(trainer.state(), "learning_rate");
    REQUIRE(rates.size() == 2);
    CHECK(rates[0] == 0.05);
    CHECK(rates[1] == Approx(0.05 * 3 / 4));
    const Line first = after({{0, 2}}, 0.05);
    check_line(model, descend(first, line_loss(first, 2, 4), 0.05 * 3 / 4));
  }

  TEST_CASE("weight decay: matrices and embeddings of GPT-2, neither norms nor biases") {
    const TemporaryFolder folder;
    TrainingArguments args = quiet_args(folder);
    nn::models::Gpt2 gpt(tiny_gpt_config());
    Trainer trainer(gpt, args, {.train_dataset = letters(8)});
    std::set<std::string> expected = {"transformer.wte.weight", "transformer.wpe.weight"};
    for (const std::string layer : {"0", "1"})
      for (const std::string part : {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"})
        expected.insert("transformer.h." + layer + "." + part + ".weight");
    const std::vector<std::string> names = trainer.get_decay_parameter_names(gpt);
    CHECK(std::set<std::string>(names.begin(), names.end()) == expected);
    CHECK(names.size() == expected.size());
    trainer.create_optimizer();
    CHECK(trainer.optimizer()->group_count() == 2);
    CHECK(trainer.get_learning_rates() == std::vector<double>{5e-5, 5e-5});
    CHECK(trainer.get_num_trainable_parameters() == gpt.parameter_count());
  }

  TEST_CASE("get_decay_parameter_names decides what decays") {
    struct DecayB : Trainer {
      using Trainer::Trainer;
      std::vector<std::string> get_decay_parameter_names(nn::Module&) override { return {"b"}; }
    };
    // Labels are what the model says: the gradient is zero, and decay alone moves weights.
    std::vector<Example> examples(
        2, {{"x", Tensor::from<double>({0.0}, {1})}, {"labels", Tensor::from<double>({2.0}, {1})}});
    const TemporaryFolder folder;
    TrainingArguments args = two_steps(folder);
    args.optim = "adamw_torch";
    args.weight_decay = 0.5;
    Regression model(3.0, 2.0);
    DecayB trainer(model, args, {.train_dataset = std::make_shared<InMemoryDataset>(examples)});
    silence(trainer);
    trainer.train();
    CHECK(model.a.item<double>() == 3.0);
    CHECK(model.b.item<double>() == Approx(2.0 * (1 - 0.1 * 0.5)));
  }

  TEST_CASE("frozen parameters stay, and a model without others is refused") {
    const TemporaryFolder folder;
    Regression model(0.5, 0.5);
    model.a.requires_grad_(false);
    Trainer trainer(model, two_steps(folder), {.train_dataset = line_data(4)});
    silence(trainer);
    trainer.train();
    CHECK(trainer.get_num_trainable_parameters() == 1);
    CHECK(model.a.item<double>() == 0.5);
    CHECK(model.b.item<double>() != 0.5);
    model.b.requires_grad_(false);
    Trainer frozen(model, two_steps(folder), {.train_dataset = line_data(4)});
    silence(frozen);
    CHECK(contains_text(error_of([&] { frozen.train(); }), "requires grad"));
  }

  TEST_CASE("data one after the other, as many passes as max_steps needs") {
    const TemporaryFolder folder;
    struct Lines : IterableDataset {
      std::unique_ptr<ExampleStream> iterate(int64_t) const override {
        struct Walk : ExampleStream {
          int64_t place = 0;
          std::optional<Example> next() override {
            if (place == 5) return std::nullopt;
            return line_data(5)->get(place++);
          }
        };
        return std::make_unique<Walk>();
      }
    };
    TrainingArguments args = two_steps(folder);
    args.gradient_accumulation_steps = 2;
    args.max_steps = 4;
    args.train_sampling_strategy = SamplingStrategy::random;  // there is nothing to shuffle
    Regression model;
    Trainer trainer(model, args, {.train_dataset = std::make_shared<Lines>()});
    silence(trainer);
    CHECK(trainer.train().global_step == 4);
    // A pass has batches of 2, 2 and 1; the last is a step of its own.
    Line line;
    for (int pass = 0; pass < 2; ++pass) {
      line = descend(line, line_loss(line, {{0, 2}, {2, 4}}), 0.1);
      line = descend(line, line_loss(line, 4, 5), 0.1);
    }
    check_line(model, line);
  }
}
