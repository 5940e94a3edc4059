// What a run leaves behind: arguments, files, counts and callbacks.
#include <doctest/doctest.h>

#include <tendril/trainer/data/collator.h>
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;
namespace fs = std::filesystem;

namespace {

// One pass in batches of 2.
TrainingArguments pair_args(const TemporaryFolder& folder) {
  TrainingArguments args = quiet_args(folder);
  args.num_train_epochs = 1;
  args.per_device_train_batch_size = 2;
  args.train_sampling_strategy = SamplingStrategy::sequential;
  return args;
}

std::string text_of(const fs::path& path) { return read_bytes(path.string()); }

}  // namespace

TEST_SUITE("trainer_outputs") {
  TEST_CASE("training leaves the arguments as they are") {
    const TemporaryFolder folder;
    TrainingArguments args = pair_args(folder);
    args.logging_strategy = args.eval_strategy = IntervalStrategy::steps;
    args.logging_steps = 0.5;  // resolved in the state alone
    args.warmup_steps = 0.25;
    args.load_best_model_at_end = true;  // metric and direction are worked out
    args.save_strategy = SaveStrategy::steps;
    args.save_steps = 0.5;
    Regression model;
    Trainer trainer(model, args, {.train_dataset = line_data(8), .eval_dataset = line_data(2)});
    silence(trainer);
    trainer.train();
    trainer.evaluate();
    CHECK(trainer.args().to_json_string() == args.to_json_string());
    CHECK(text_of(folder.path() / "checkpoint-4" / "training_args.json") == args.to_json_string());
  }

  TEST_CASE("save_model, save_state and save_metrics") {
    const TemporaryFolder folder;
    nn::models::Gpt2 gpt(tiny_gpt_config());
    TrainingArguments args = quiet_args(folder);
    args.max_steps = 1;
    Trainer trainer(gpt, args, {.train_dataset = letters(8)});
    silence(trainer);
    trainer.train();
    trainer.save_model();
    trainer.save_model(folder.file("elsewhere/deep"));
    for (const fs::path& place : {folder.path(), folder.path() / "elsewhere" / "deep"})
      for (const char* name : {"model.safetensors", "config.json", "training_args.json"}) {
        CAPTURE(name);
        CHECK(fs::exists(place / name));
      }
    const auto read = nn::models::Gpt2Config::from_json(text_of(folder.path() / "config.json"), "");
    CHECK(read == tiny_gpt_config());
    trainer.save_state();
    CHECK(text_of(folder.path() / "trainer_state.json") == trainer.state().to_json_string());

    trainer.save_metrics("train", {{"train_loss", 0.5}, {"epoch", 1.0}});
    trainer.save_metrics("eval", {{"eval_loss", 0.25}});
    trainer.save_metrics("test", {{"test_loss", 0.125}}, /*combined=*/false);
    const std::string one = text_of(folder.path() / "train_results.json");
    const Json all = Json::parse(text_of(folder.path() / "all_results.json"), "all_results.json");
    CHECK(one.starts_with("{\n    \"epoch\": 1"));  // indented by 4, keys sorted
    CHECK(Json::parse(one, "train_results.json").at("train_loss").as_double() == 0.5);
    CHECK(all.members().size() == 3);
    CHECK(all.at("train_loss").as_double() == 0.5);
    CHECK(all.at("eval_loss").as_double() == 0.25);
    CHECK(fs::exists(folder.path() / "test_results.json"));
  }

  TEST_CASE("tokens that went in are counted, padding or not") {
    std::vector<Example> examples;
    for (const int64_t length : {8, 3, 5, 2})
      examples.push_back(
          {{"input_ids",
            Tensor::from(std::vector<int64_t>(static_cast<size_t>(length), 1), {length})}});
    const auto data = std::make_shared<InMemoryDataset>(std::move(examples));
    const auto seen = [&](const std::string& how) {
      const TemporaryFolder folder;
      TrainingArguments args = pair_args(folder);
      args.include_num_input_tokens_seen = how;
      args.logging_strategy = IntervalStrategy::steps;
      args.logging_steps = 2;
      nn::models::Gpt2 gpt(tiny_gpt_config());
      Trainer trainer(gpt, args,
                      {.train_dataset = data, .data_collator = DataCollatorForLanguageModeling{}});
      silence(trainer);
      trainer.train();
      const Json* in_row = trainer.state().log_history.at(0).find("num_input_tokens_seen");
      CHECK((in_row != nullptr) == (how != "no"));
      if (in_row) CHECK(in_row->as_int() == trainer.state().num_input_tokens_seen);
      return trainer.state().num_input_tokens_seen;
    };
    CHECK(seen("no") == 0);
    CHECK(seen("all") == 2 * 8 + 2 * 5);
    CHECK(seen("non_padding") == 8 + 3 + 5 + 2);
  }

  TEST_CASE("callbacks come, are asked for by name and go") {
    struct Mine : TrainerCallback {
      int64_t steps = 0;
      void on_step_end(CallbackContext&) override { ++steps; }
    };
    const TemporaryFolder folder;
    Regression model;
    Trainer trainer(model, pair_args(folder), {.train_dataset = line_data(4)});
    CHECK(trainer.callbacks().front()->name() == "DefaultFlowCallback");
    CHECK(trainer.callbacks().back()->name() == "PrinterCallback");
    silence(trainer);
    const Mine& mine = trainer.add_callback<Mine>();
    CHECK(trainer.callbacks().back().get() == &mine);
    trainer.train();
    CHECK(mine.steps == 2);
    const auto popped = trainer.pop_callback("Mine");
    REQUIRE(popped.get() == &mine);
    trainer.train();
    CHECK(mine.steps == 2);
    CHECK(trainer.pop_callback("Mine") == nullptr);
    trainer.remove_callback("Mine");  // nothing to remove is no error
    CHECK(contains_text(error_of([&] { trainer.add_callback(nullptr); }), "null"));
  }
}
