// The Trainer over several processes, which are threads here: the same run as one process on the
// whole batch, whatever the strategy; resumed by any number of them.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include <tendril/core/threads.h>
#include <tendril/dist/in_process.h>
#include <tendril/optim/adamw.h>
#include <tendril/trainer/optimizer_choice.h>

#include "trainer_tools.h"

namespace {

using namespace tendril;
using namespace tendril::testing;
namespace fs = std::filesystem;

using Group = std::shared_ptr<dist::ProcessGroup>;
using Change = std::function<void(TrainingArguments&)>;

struct OneThreadEach {
  int before = num_threads();
  OneThreadEach() { set_num_threads(1); }
  ~OneThreadEach() { set_num_threads(before); }
};

constexpr int64_t kExamples = 12;  // of a step, over all processes

// Windows of which some labels do not count, more in some than in others.
std::shared_ptr<const Dataset> uneven_letters(int64_t windows) {
  std::vector<Example> examples;
  for (int64_t i = 0; i < windows; ++i) {
    std::vector<int64_t> tokens, labels;
    for (int64_t t = 0; t < 8; ++t) {
      tokens.push_back((i * i + 3 * t) % 16);
      labels.push_back(t < i % 7 ? -100 : (tokens.back() * 5 + 1) % 4);
    }
    examples.push_back(
        {{"input_ids", Tensor::from(tokens, {8})}, {"shift_labels", Tensor::from(labels, {8})}});
  }
  return std::make_shared<InMemoryDataset>(std::move(examples));
}

struct Result {
  std::vector<double> losses, norms;
  double eval_loss = 0.0;
  int64_t tokens_seen = 0;
  StateDict weights;
};

// One process's run of `steps` steps; the result is the first's.
Result run_here(const Group& group, const fs::path& folder, int64_t steps, const Change& change,
                const Resume& resume = {}) {
  manual_seed(group && group->rank() > 0 ? 77 : 5);
  auto model = std::make_shared<nn::models::Gpt2>(tiny_gpt_config(0.0));
  const int64_t processes = group ? group->size() : 1;
  TrainingArguments args;
  args.output_dir = folder.string();
  args.use_cpu = true;
  args.disable_tqdm = true;
  args.save_strategy = SaveStrategy::no;
  args.logging_steps = 1;
  args.report_to = {"none"};
  args.include_num_input_tokens_seen = "all";
  args.learning_rate = 1e-2;
  args.max_steps = steps;
  args.per_device_train_batch_size = kExamples / processes;
  args.per_device_eval_batch_size = 4;
  if (change) change(args);
  Result result;
  {
    Trainer trainer(model, args,
                    {.train_dataset = uneven_letters(60),
                     .eval_dataset = uneven_letters(13),
                     .process_group = group});
    silence(trainer);
    trainer.train(resume);
    const Metrics metrics = trainer.evaluate();
    result.eval_loss = metrics.at("eval_loss");
    result.tokens_seen = trainer.state().num_input_tokens_seen;
    for (const Json& row : trainer.state().log_history) {
      if (const Json* loss = row.find("loss")) result.losses.push_back(loss->as_double());
      if (const Json* norm = row.find("grad_norm")) result.norms.push_back(norm->as_double());
    }
  }
  for (const auto& [name, tensor] : model->state_dict()) result.weights[name] = clone(tensor);
  return result;
}

Result run(int processes, const fs::path& folder, int64_t steps, const Change& change = {},
           const Resume& resume = {}) {
  if (processes == 1) return run_here(nullptr, folder, steps, change, resume);
  Result first;
  dist::run_ranks(processes, [&](const Group& group) {
    Result result = run_here(group, folder, steps, change, resume);
    if (group->rank() == 0) first = std::move(result);
  });
  return first;
}

void check_close(const Result& result, const Result& expected, double tolerance) {
  REQUIRE(result.losses.size() == expected.losses.size());
  for (size_t i = 0; i < result.losses.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(result.losses[i] - expected.losses[i]) <= tolerance * expected.losses[i]);
    CHECK(result.norms[i] == doctest::Approx(expected.norms[i]).epsilon(100 * tolerance));
  }
  CHECK(std::abs(result.eval_loss - expected.eval_loss) <= tolerance * expected.eval_loss);
}

bool same_bits(const Result& a, const Result& b) {
  if (a.losses != b.losses || a.eval_loss != b.eval_loss) return false;
  for (const auto& [name, tensor] : a.weights)
    if (tensor.to_vector<float>() != b.weights.at(name).to_vector<float>()) return false;
  return true;
}

Change fsdp(const std::string& options) {
  return [options](TrainingArguments& args) { args.fsdp = options; };
}

Change deepspeed(int stage) {
  return [stage](TrainingArguments& args) {
    Json zero = Json::object(), config = Json::object();
    zero.set("stage", stage);
    config.set("zero_optimization", std::move(zero));
    args.deepspeed = std::move(config);
  };
}

}  // namespace

TEST_SUITE("trainer distributed") {
  TEST_CASE("every strategy, on 2 to 4 processes, is the run of one") {
    const OneThreadEach one_thread;
    const TemporaryFolder folder;
    const Result alone = run(1, folder.path(), 8);
    CHECK(alone.losses.back() < 0.9 * alone.losses.front());
    CHECK(alone.tokens_seen == 8 * kExamples * 8);
    for (const int processes : {2, 3, 4}) {
      CAPTURE(processes);
      const Result data_parallel = run(processes, folder.path(), 8);
      check_close(data_parallel, alone, 1e-6);
      CHECK(data_parallel.tokens_seen == alone.tokens_seen);
      for (const Change& change : {fsdp("full_shard auto_wrap"), fsdp("shard_grad_op"),
                                   fsdp("no_shard"), deepspeed(1), deepspeed(2), deepspeed(3)})
        CHECK(same_bits(run(processes, folder.path(), 8, change), data_parallel));
    }
  }

  TEST_CASE("accumulation: 1 x 6, 2 x 3 and 6 x 1 on two processes are the large batch") {
    const OneThreadEach one_thread;
    const TemporaryFolder folder;
    const Result alone = run(1, folder.path(), 5);
    for (const char* strategy : {"", "full_shard auto_wrap", "shard_grad_op"})
      for (const int64_t batches : {2, 3, 6}) {
        CAPTURE(strategy);
        CAPTURE(batches);
        check_close(run(2, folder.path(), 5,
                        [&](TrainingArguments& args) {
                          args.fsdp = strategy;
                          args.gradient_accumulation_steps = batches;
                          args.per_device_train_batch_size = 6 / batches;
                        }),
                    alone, 1e-6);
      }
  }

  TEST_CASE("saved by two processes, continued by one, two, three and four") {
    const OneThreadEach one_thread;
    for (const Change& strategy :
         {Change(), fsdp("full_shard auto_wrap"), deepspeed(2), Change([](TrainingArguments& args) {
            args.fsdp = "full_shard auto_wrap";
            args.fsdp_config = Json::object();
            args.fsdp_config.set("state_dict_type", "SHARDED_STATE_DICT");
          })}) {
      const TemporaryFolder folder;
      const Change saving = [&](TrainingArguments& args) {
        if (strategy) strategy(args);
        args.save_strategy = SaveStrategy::steps;
        args.save_steps = 4;
      };
      const Result whole = run(2, folder.path(), 8, saving);
      const std::string checkpoint = (folder.path() / "checkpoint-4").string();
      for (const int processes : {1, 2, 3, 4}) {
        CAPTURE(processes);
        const TemporaryFolder other;
        const Change continuing = [&](TrainingArguments& args) {
          if (strategy && processes > 1) strategy(args);
        };
        const Result continued = run(processes, other.path(), 8, continuing, checkpoint);
        check_close(continued, whole, 1e-5);
        if (processes == 2) CHECK(same_bits(continued, whole));
      }
    }
  }

  TEST_CASE("one process's checkpoint is continued by a sharded run") {
    const OneThreadEach one_thread;
    const TemporaryFolder folder, other;
    const Result whole = run(1, folder.path(), 6, [](TrainingArguments& args) {
      args.save_strategy = SaveStrategy::steps;
      args.save_steps = 3;
    });
    check_close(run(3, other.path(), 6, fsdp("full_shard auto_wrap"),
                    (folder.path() / "checkpoint-3").string()),
                whole, 1e-5);
  }

  TEST_CASE("every optimizer gives what one process gets") {
    const OneThreadEach one_thread;
    const TemporaryFolder folder;
    for (const std::string& optim : optimizer_names()) {
      CAPTURE(optim);
      const Change change = [&](TrainingArguments& args) {
        args.optim = optim;
        args.max_grad_norm = 0.0;
        args.nonfinite_policy = NonfinitePolicy::stop;
        if (optim.find("galore") == 0 || optim.find("apollo") == 0) {
          args.optim_target_modules = {"attn"};
          args.optim_args = "rank=4";
        }
      };
      const Result alone = run(1, folder.path(), 4, change);
      const Result sharded = run(3, folder.path(), 4, [&](TrainingArguments& args) {
        change(args);
        args.fsdp = "full_shard auto_wrap";
      });
      REQUIRE(sharded.losses.size() == alone.losses.size());
      for (size_t i = 0; i < alone.losses.size(); ++i)
        CHECK(sharded.losses[i] == doctest::Approx(alone.losses[i]).epsilon(1e-4));
    }
  }

  TEST_CASE("evaluating within a run changes nothing, also where the weights move for it") {
    const OneThreadEach one_thread;
    const TemporaryFolder folder;
    for (const char* optim : {"adamw_torch", "schedule_free_adamw"})
      for (const int64_t eval_steps : {1, 2}) {
        const auto change = [&](const char* strategy) {
          return [=](TrainingArguments& args) {
            args.optim = optim;
            args.eval_strategy = IntervalStrategy::steps;
            args.eval_steps = static_cast<double>(eval_steps);
            args.fsdp = strategy;
          };
        };
        const Result whole = run(2, folder.path(), 5, change(""));
        CHECK(same_bits(run(2, folder.path(), 5, change("full_shard auto_wrap")), whole));
        CHECK(same_bits(run(2, folder.path(), 5, change("full_shard")), whole));
        CHECK(same_bits(run(2, folder.path(), 5, change("shard_grad_op auto_wrap")), whole));
      }
  }

  TEST_CASE("all processes go by the first one's metrics") {
    dist::run_ranks(2, [](const Group& group) {
      const TemporaryFolder folder;
      Regression model(3.0, 1.0);
      Trainer trainer(model, quiet_args(folder),
                      {.eval_dataset = line_data(6),
                       .compute_metrics =
                           [&](const EvalPrediction&) {
                             return Metrics{{"mine", group->rank() + 1.0},
                                            {group->rank() == 0 ? "first" : "second", 1.0}};
                           },
                       .process_group = group});
      silence(trainer);
      const Metrics metrics = trainer.evaluate();
      CHECK(metrics.at("eval_mine") == 1.0);
      CHECK(metrics.count("eval_first") == 1);
      CHECK(metrics.count("eval_second") == 0);
    });
  }

  TEST_CASE("predictions come in the order of the dataset, each once, in every process") {
    for (const int processes : {2, 3})
      dist::run_ranks(processes, [](const Group& group) {
        const TemporaryFolder folder;
        Regression model(3.0, 1.0);
        TrainingArguments args = quiet_args(folder);
        args.per_device_eval_batch_size = 2;
        int64_t seen = 0;
        Trainer trainer(model, args,
                        {.compute_metrics =
                             [&](const EvalPrediction& prediction) {
                               seen = prediction.predictions.size(0);
                               return Metrics{};
                             },
                         .process_group = group});
        silence(trainer);
        const PredictionOutput output = trainer.predict(line_data(9));
        REQUIRE(output.predictions.size(0) == 9);
        CHECK(seen == 9);
        const std::vector<double> values = output.predictions.to_vector<double>();
        for (size_t i = 0; i < values.size(); ++i)
          CHECK(values[i] == doctest::Approx(0.3 * static_cast<double>(i) + 1.0));
        double loss = 0.0;
        for (int64_t i = 0; i < 9; ++i) loss += std::pow(static_cast<double>(i) / 10.0, 2) / 9.0;
        CHECK(output.metrics.at("test_loss") == doctest::Approx(loss));
      });
  }

  TEST_CASE("what cannot work across processes is an error that says so") {
    dist::run_ranks(2, [](const Group& group) {
      const TemporaryFolder folder;
      Regression model;
      TrainingArguments args = quiet_args(folder);
      args.auto_find_batch_size = true;
      CHECK_THROWS_WITH_AS(Trainer(model, args, {.process_group = group}),
                           doctest::Contains("auto_find_batch_size"), Error);
      args.auto_find_batch_size = false;
      args.optim = "lomo";
      args.max_steps = 1;
      Trainer trainer(model, args, {.train_dataset = line_data(8), .process_group = group});
      CHECK_THROWS_WITH_AS(trainer.train(), doctest::Contains("use it with fsdp"), Error);

      // An optimizer of the whole parameters would train nothing.
      struct Own : Trainer {
        using Trainer::Trainer;
        bool of_parts = false;
        void create_optimizer() override {
          set_optimizer(std::make_shared<optim::AdamW>(
              of_parts ? trained_parameters() : model().module().named_parameters()));
        }
      };
      TrainingArguments sharded = quiet_args(folder);
      sharded.fsdp = "full_shard";
      sharded.max_steps = 1;
      Regression other;
      Own own(other, sharded, {.train_dataset = line_data(8), .process_group = group});
      silence(own);
      CHECK_THROWS_WITH_AS(own.train(), doctest::Contains("trained_parameters()"), Error);
      own.of_parts = true;
      own.train();
      Regression third;
      sharded.bf16_full_eval = true;
      CHECK_THROWS_WITH_AS(Trainer(third, sharded, {.process_group = group}),
                           doctest::Contains("bf16_full_eval"), Error);
    });
  }
}
