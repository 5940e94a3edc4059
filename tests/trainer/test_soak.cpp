// Ten thousand steps: memory stays flat, and what is logged is what was computed.
#include <doctest/doctest.h>

#include <tendril/core/allocator.h>
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// Every step's loss, and what memory holds now and then.
struct Watch : Trainer {
  using Trainer::Trainer;
  std::vector<double> losses;
  std::vector<MemoryStats> memory;
  Tensor training_step(const TrainableModel& model, Batch& inputs,
                       std::optional<int64_t> items) override {
    const Tensor loss = Trainer::training_step(model, inputs, items);
    losses.push_back(loss.item<double>());
    if (losses.size() % 1000 == 0) memory.push_back(memory_stats());
    return loss;
  }
};

}  // namespace

TEST_SUITE("trainer_soak") {
  TEST_CASE("10 000 steps leak nothing, and logged losses are the losses") {
    const TemporaryFolder folder;
    TrainingArguments args = quiet_args(folder);
    args.max_steps = 10000;
    args.per_device_train_batch_size = 3;
    args.learning_rate = 1e-3;
    args.logging_strategy = IntervalStrategy::steps;
    args.logging_steps = 100;
    args.lr_scheduler_type = SchedulerType::constant;
    Regression model;
    Watch trainer(model, args, {.train_dataset = line_data(20)});
    silence(trainer);
    const TrainOutput output = trainer.train();
    REQUIRE(trainer.losses.size() == 10000);

    const std::vector<double> rows = logged(trainer.state(), "loss");
    REQUIRE(rows.size() == 100);
    double total = 0.0;
    for (size_t row = 0; row < rows.size(); ++row) {
      double sum = 0.0;
      for (size_t i = 0; i < 100; ++i) sum += trainer.losses[100 * row + i];
      total += sum;
      CHECK(rows[row] == doctest::Approx(sum / 100.0).epsilon(1e-12));
    }
    CHECK(output.training_loss == doctest::Approx(total / 10000.0).epsilon(1e-12));
    CHECK(model.a.item<double>() == doctest::Approx(2.0).epsilon(1e-2));

    REQUIRE(trainer.memory.size() == 10);
    for (size_t i = 1; i < trainer.memory.size(); ++i) {
      CHECK(trainer.memory[i].current_bytes == trainer.memory[0].current_bytes);
      CHECK(trainer.memory[i].peak_bytes == trainer.memory[0].peak_bytes);
      CHECK(trainer.memory[i].system_allocations == trainer.memory[0].system_allocations);
    }
  }
}
