// NEFTune in the Trainer: each sequence's own length, the padded one on request; recomputation,
// resume and evaluation.
#include <doctest/doctest.h>
#include <tendril/trainer/data/collator.h>
#include <tendril/trainer/embedding_noise.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "test_tools.h"
#include "trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// Texts of 2 to 8 letters, which the collator pads.
std::shared_ptr<const Dataset> uneven_letters(int64_t count) {
  std::vector<Example> examples;
  for (int64_t i = 0; i < count; ++i) {
    std::vector<int64_t> tokens;
    for (int64_t j = 0; j < 2 + i * 5 % 7; ++j) tokens.push_back((i * i + 3 * j) % 16);
    const auto length = static_cast<int64_t>(tokens.size());
    examples.push_back({{"input_ids", Tensor::from<int64_t>(tokens, {length})}});
  }
  return std::make_shared<InMemoryDataset>(std::move(examples));
}

TrainingArguments noisy_args(const TemporaryFolder& folder) {
  TrainingArguments args = quiet_args(folder);
  args.max_steps = 6;
  args.per_device_train_batch_size = 3;
  args.gradient_accumulation_steps = 2;
  args.learning_rate = 1e-2;
  args.neftune_noise_alpha = 5.0;
  return args;
}

std::vector<double> trained_weights(const TrainingArguments& args, bool padded_data = true,
                                    const Resume& resume = {}) {
  manual_seed(3);
  nn::models::Gpt2 model(tiny_gpt_config());
  Trainer trainer(model, args,
                  {.train_dataset = padded_data ? uneven_letters(20) : letters(20),
                   .data_collator = DataCollatorForLanguageModeling{}});
  silence(trainer);
  trainer.train(resume);
  return all_weights(model);
}

// Looks the tokens of each training batch up once more, and keeps what that adds to the table.
class NoiseWatcher : public Trainer {
 public:
  using Trainer::Trainer;
  struct Row {
    int64_t length, padded_length;
    double largest = 0.0, on_padding = 0.0;  // magnitudes
  };
  std::vector<Row> rows;

  LossOutput compute_loss(const TrainableModel& model, Batch& inputs,
                          const LossRequest& request) override {
    auto& gpt2 = dynamic_cast<nn::models::Gpt2&>(model.module());
    if (gpt2.training()) watch(*gpt2.input_embedding(), inputs);
    return Trainer::compute_loss(model, inputs, request);
  }

 private:
  void watch(const nn::Embedding& table, const Batch& inputs) {
    const Tensor tokens = inputs.at("input_ids").detach();
    const Tensor noise = (table(tokens) - embedding(tokens, table.weight())).detach();
    const std::vector<int64_t> mask = inputs.at("attention_mask").to_vector<int64_t>();
    const int64_t B = tokens.size(0), T = tokens.size(1);
    for (int64_t b = 0; b < B; ++b) {
      const auto begin = mask.begin() + b * T;
      Row row{std::count(begin, begin + T, 1), T};
      row.largest = max(abs(slice(select(noise, 0, b), 0, 0, row.length))).item<double>();
      if (row.length < T)
        row.on_padding = max(abs(slice(select(noise, 0, b), 0, row.length))).item<double>();
      rows.push_back(row);
    }
  }
};

std::vector<NoiseWatcher::Row> watched_rows(const TrainingArguments& args) {
  manual_seed(3);
  nn::models::Gpt2 model(tiny_gpt_config());
  NoiseWatcher trainer(
      model, args,
      {.train_dataset = uneven_letters(20), .data_collator = DataCollatorForLanguageModeling{}});
  silence(trainer);
  trainer.train();
  return trainer.rows;
}

}  // namespace

TEST_SUITE("trainer_neftune") {
  TEST_CASE("lengths from a mask, from positions, from both") {
    const auto lengths = [](const Batch& batch) {
      return sequence_lengths(batch).to_vector<int64_t>();
    };
    const Tensor tokens = zeros({2, 5}, i64);
    const Tensor mask = Tensor::from<int64_t>({1, 1, 1, 0, 0, 1, 1, 1, 1, 1}, {2, 5});
    const Tensor positions = Tensor::from<int64_t>({0, 1, 0, 1, 2, 3, 4, 0, 0, 1}, {2, 5});
    CHECK(lengths({{"input_ids", tokens}, {"attention_mask", mask}}) ==
          std::vector<int64_t>{3, 3, 3, 0, 0, 5, 5, 5, 5, 5});
    CHECK(lengths({{"input_ids", tokens}, {"position_ids", positions}}) ==
          std::vector<int64_t>{2, 2, 3, 3, 3, 2, 2, 1, 2, 2});
    CHECK(lengths({{"input_ids", tokens}, {"attention_mask", mask}, {"position_ids", positions}}) ==
          std::vector<int64_t>{2, 2, 1, 0, 0, 2, 2, 1, 2, 2});
    CHECK_FALSE(sequence_lengths({{"input_ids", tokens}}).defined());
    CHECK_FALSE(sequence_lengths({{"x", tokens}, {"attention_mask", mask}}).defined());
    const std::string message = message_of([&] {
      sequence_lengths({{"input_ids", tokens}, {"attention_mask", ones({2}, i64)}});
    });
    CHECK(contains(message, "attention_mask must have the shape of input_ids, (2, 5); got (2,)"));
  }

  TEST_CASE("in a padded batch each sequence has the bound of its own length") {
    const TemporaryFolder folder;
    TrainingArguments args = noisy_args(folder);
    const std::vector<NoiseWatcher::Row> rows = watched_rows(args);
    REQUIRE(rows.size() == 32);  // a pass of 20 examples in 4 steps, then 2 steps of 6
    bool any_padding = false;
    for (const NoiseWatcher::Row& row : rows) {
      const double bound = 5.0 / std::sqrt(static_cast<double>(row.length) * 16.0);
      CHECK(row.largest <= bound + 1e-6);  // noise was had back by an f32 subtraction
      CHECK(row.largest >= 0.8 * bound);
      CHECK(row.on_padding == 0.0);
      any_padding |= row.length < row.padded_length;
    }
    CHECK(any_padding);
  }

  TEST_CASE("neftune_length=padded is the original's rule") {
    const TemporaryFolder folder;
    TrainingArguments args = noisy_args(folder);
    args.neftune_length = NeftuneLength::padded;
    for (const NoiseWatcher::Row& row : watched_rows(args)) {
      const double bound = 5.0 / std::sqrt(static_cast<double>(row.padded_length) * 16.0);
      CHECK(row.largest <= bound + 1e-6);
      CHECK(row.largest >= 0.8 * bound);
      if (row.length < row.padded_length) CHECK(row.on_padding >= 0.7 * bound);
    }
    // The two differ on padded batches alone.
    const std::vector<double> padded = trained_weights(args), whole = trained_weights(args, false);
    args.neftune_length = NeftuneLength::sequence;
    CHECK(trained_weights(args) != padded);
    CHECK(trained_weights(args, false) == whole);
  }

  TEST_CASE("gradient checkpointing, resume and layer-wise updates give the same bits") {
    const TemporaryFolder folder;
    TrainingArguments args = noisy_args(folder);
    args.save_strategy = SaveStrategy::steps;
    args.save_steps = 4;
    const std::vector<double> expected = trained_weights(args);
    CHECK(trained_weights(args, true, Resume(folder.file("checkpoint-4"))) == expected);
    args.gradient_checkpointing = true;
    CHECK(trained_weights(args) == expected);
    CHECK(trained_weights(args, true, Resume(folder.file("checkpoint-4"))) == expected);
    args.neftune_noise_alpha.reset();
    CHECK(trained_weights(args) != expected);

    args = noisy_args(folder);
    args.gradient_accumulation_steps = 1;
    args.max_grad_norm = 0.0;
    const std::vector<double> by_step = trained_weights(args);
    args.optim = "adamw_torch_layerwise";
    CHECK(trained_weights(args) == by_step);
  }

  TEST_CASE("evaluations see no noise, and none is left when training has ended") {
    const TemporaryFolder folder;
    TrainingArguments args = noisy_args(folder);
    args.eval_strategy = IntervalStrategy::steps;
    args.eval_steps = 3;
    manual_seed(3);
    nn::models::Gpt2 model(tiny_gpt_config(0.0));
    const DataCollator collator = DataCollatorForLanguageModeling{};
    Trainer trainer(model, args,
                    {.train_dataset = uneven_letters(20),
                     .eval_dataset = uneven_letters(7),
                     .data_collator = collator});
    silence(trainer);
    trainer.train();
    const std::vector<double> losses = logged(trainer.state(), "eval_loss");
    REQUIRE(losses.size() == 2);
    args.neftune_noise_alpha.reset();
    Trainer quiet(model, args, {.eval_dataset = uneven_letters(7), .data_collator = collator});
    silence(quiet);
    CHECK(quiet.evaluate().at("eval_loss") == losses.back());

    const nn::Embedding& table = *model.input_embedding();
    CHECK(table.noise_alpha() == 0.0);
    model.train();
    const Tensor tokens = zeros({1, 3}, i64);
    CHECK(table(tokens).to_vector<float>() == embedding(tokens, table.weight()).to_vector<float>());
    // Nor lengths: they would not fit this shape.
    model.input_embedding()->set_noise_alpha(1.0);
    CHECK(table(tokens).to_vector<float>() != embedding(tokens, table.weight()).to_vector<float>());
  }
}
