// A run that is killed and resumed is the run that was not: the same weights, optimizer state, log
// rows and evaluations, to the bit.
#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <thread>

#include <tendril/core/log.h>
#include <tendril/core/safetensors.h>
#include <tendril/core/threads.h>
#include <tendril/trainer/checkpoint/checkpoint_folder.h>
#include "trainer/callback_tools.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;
namespace fs = std::filesystem;

namespace {

struct Outcome {
  std::vector<double> weights;
  std::vector<double> optimizer;
  std::vector<std::string> rows;  // of the log history, without times
  std::set<int64_t> checkpoints;
};

Outcome outcome_of(Trainer& trainer) {
  Outcome outcome;
  outcome.weights = all_weights(trainer.model().module());
  for (const auto& [name, tensor] : trainer.optimizer()->state_dict())
    for (const double value : tensor.to_vector<double>()) outcome.optimizer.push_back(value);
  for (const Json& row : trainer.state().log_history) {
    if (row.find("train_runtime")) continue;
    std::map<std::string, std::string> timeless;  // the state file sorts the keys of its rows
    for (const auto& [name, value] : row.members())
      if (!name.ends_with("_runtime") && !name.ends_with("_per_second"))
        timeless[name] = value.dump();
    std::string text;
    for (const auto& [name, value] : timeless) text += name + "=" + value + " ";
    outcome.rows.push_back(text);
  }
  return outcome;
}

using Modify = std::function<void(TrainingArguments&)>;

Outcome run(const TemporaryFolder& folder, const Resume& resume, const Modify& modify = {}) {
  TrainingArguments args = eventful_args(folder);
  if (modify) modify(args);
  manual_seed(7);
  nn::models::Gpt2 model(tiny_gpt_config());
  Trainer trainer(model, args, {.train_dataset = letters(13), .eval_dataset = letters(3)});
  silence(trainer);
  trainer.train(resume);
  return outcome_of(trainer);
}

void check_equal(const Outcome& a, const Outcome& b) {
  CHECK(a.weights == b.weights);
  CHECK(a.optimizer == b.optimizer);
  CHECK(a.rows == b.rows);
}

// Trains in a child process that is killed after `delay`; true when it had finished before.
bool run_and_kill(const TemporaryFolder& folder, std::chrono::microseconds delay,
                  const Modify& modify) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      set_log_level(LogLevel::critical);
      run(folder, Resume::latest_if_any(), modify);
      _exit(0);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
      _exit(1);
    }
  }
  std::this_thread::sleep_for(delay);
  kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  REQUIRE_FALSE((WIFEXITED(status) && WEXITSTATUS(status) != 0));
  return WIFEXITED(status);
}

// The tests of killed processes fork, and a forked child must not use a team of threads that its
// parent had.
struct OneThread {
  int before = num_threads();
  OneThread() { set_num_threads(1); }
  ~OneThread() { set_num_threads(before); }
};

}  // namespace

TEST_SUITE("trainer_resume") {
  TEST_CASE("from every checkpoint, mid-epoch and mid-window, to the bit") {
    const TemporaryFolder whole;
    const Outcome expected = run(whole, {});
    const auto checkpoints = list_checkpoints(whole.path());
    REQUIRE(checkpoints.size() ==
            8);  // 13 examples in batches of 2, two of them per step: 4 a pass
    for (const CheckpointPath& checkpoint : checkpoints) {
      CAPTURE(checkpoint.step);
      const TemporaryFolder again;
      check_equal(run(again, checkpoint.folder.string()), expected);
    }
  }

  TEST_CASE("and when the thread count changes") {
    const TemporaryFolder whole, again;
    const Outcome expected = run(whole, {});
    const OneThread one;
    check_equal(run(again, whole.file("checkpoint-3")), expected);
  }

  TEST_CASE("with bf16, f16, other schedules, optimizers, checkpointing and background saving") {
    const std::vector<std::pair<std::string, Modify>> variants = {
        {"bf16", [](TrainingArguments& a) { a.bf16 = true; }},
        {"f16", [](TrainingArguments& a) { a.fp16 = true; }},
        {"sgd", [](TrainingArguments& a) { a.optim = "sgd"; }},
        {"adafactor", [](TrainingArguments& a) { a.optim = "adafactor"; }},
        {"lion", [](TrainingArguments& a) { a.optim = "lion_32bit"; }},
        {"muon", [](TrainingArguments& a) { a.optim = "muon"; }},
        {"8-bit AdamW",
         [](TrainingArguments& a) {
           a.optim = "adamw_8bit";
           a.optim_args = "min_8bit_size=256";
         }},
        {"8-bit GaLore",
         [](TrainingArguments& a) {
           a.optim = "galore_adamw_8bit";
           a.optim_target_modules = {"attn", "mlp"};
           a.optim_args = "rank=4, update_proj_gap=3, min_8bit_size=64";
         }},
        {"APOLLO",
         [](TrainingArguments& a) {
           a.optim = "apollo_adamw";
           a.optim_target_modules = {"attn", "mlp"};
           a.optim_args = "rank=4, update_proj_gap=3";
         }},
        {"ademamix", [](TrainingArguments& a) { a.optim = "ademamix"; }},
        {"schedule-free", [](TrainingArguments& a) { a.optim = "schedule_free_adamw"; }},
        {"NEFTune", [](TrainingArguments& a) { a.neftune_noise_alpha = 5.0; }},
        {"gradient checkpointing", [](TrainingArguments& a) { a.gradient_checkpointing = true; }},
        {"background", [](TrainingArguments& a) { a.save_in_background = true; }},
        {"workers", [](TrainingArguments& a) { a.dataloader_num_workers = 2; }},
        {"label smoothing", [](TrainingArguments& a) { a.label_smoothing_factor = 0.1; }},
        {"plateau",
         [](TrainingArguments& a) {
           a.lr_scheduler_type = SchedulerType::reduce_lr_on_plateau;
           a.lr_scheduler_kwargs = Json::object().set("patience", 0).set("threshold", 0.5);
         }},
        {"epochs", [](TrainingArguments& a) {
           a.eval_strategy = a.logging_strategy = IntervalStrategy::epoch;
           a.save_strategy = SaveStrategy::epoch;
         }}};
    for (const auto& [name, modify] : variants) {
      CAPTURE(name);
      const TemporaryFolder whole(memory_folder()), again(memory_folder());
      const Outcome expected = run(whole, {}, modify);
      const auto checkpoints = list_checkpoints(whole.path());
      REQUIRE_FALSE(checkpoints.empty());
      check_equal(run(again, checkpoints[checkpoints.size() / 2].folder.string(), modify),
                  expected);
    }
  }

  TEST_CASE("after an epoch that a callback cut short the position is still right") {
    struct ShortEpochs : TrainerCallback {
      void on_step_end(CallbackContext& c) override {
        if (c.state.global_step % 3 == 0) c.control.should_epoch_stop = true;
      }
    };
    const auto run_short = [](const TemporaryFolder& folder, const Resume& resume) {
      TrainingArguments args = eventful_args(folder);
      args.max_steps = 8;
      args.save_strategy = SaveStrategy::steps;
      manual_seed(7);
      nn::models::Gpt2 model(tiny_gpt_config());
      Trainer trainer(model, args, {.train_dataset = letters(20), .eval_dataset = letters(3)});
      silence(trainer);
      trainer.add_callback<ShortEpochs>();
      trainer.train(resume);
      return outcome_of(trainer);
    };
    const TemporaryFolder whole;
    const Outcome expected = run_short(whole, {});
    for (int64_t step = 2; step <= 6; ++step) {
      CAPTURE(step);
      const TemporaryFolder again;
      check_equal(run_short(again, whole.file("checkpoint-" + std::to_string(step))), expected);
    }
  }

  TEST_CASE("a finished run resumes to itself") {
    const TemporaryFolder folder;
    const Outcome expected = run(folder, {});
    check_equal(run(folder, Resume::latest()), expected);
  }

  TEST_CASE("50 runs killed at random moments, saves included") {
    const OneThread one;
    const LogCapture quiet;
    const auto limited = [](TrainingArguments& args) { args.save_total_limit = 3; };
    const TemporaryFolder whole(memory_folder());
    const auto start = std::chrono::steady_clock::now();
    const Outcome expected = run(whole, {}, limited);
    const auto run_time = std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::steady_clock::now() - start);
    std::mt19937_64 random(20261126);
    int killed = 0, completed = 0;
    while (killed < 50) {
      const TemporaryFolder folder(memory_folder());
      bool finished = false;
      for (int attempt = 0; !finished; ++attempt) {
        // Later attempts get more time, so that every run ends.
        const auto most = static_cast<uint64_t>(run_time.count()) * (attempt < 6 ? 1 : 40);
        finished = run_and_kill(folder, std::chrono::microseconds(random() % most), limited);
        killed += !finished;
      }
      ++completed;
      CAPTURE(killed);
      check_equal(run(folder, Resume::latest(), limited), expected);
      for (const CheckpointPath& checkpoint : list_checkpoints(folder.path()))
        CHECK(checkpoint_faults(checkpoint.folder).empty());
    }
    CHECK(completed > 3);
  }

  TEST_CASE("a damaged checkpoint is named, and the one before is taken") {
    const TemporaryFolder folder;
    const Outcome expected = run(folder, {});
    fs::resize_file(folder.path() / "checkpoint-8" / "optimizer.safetensors", 100);
    std::string message;
    {
      const LogCapture log;
      check_equal(run(folder, Resume::latest()), expected);
      for (const std::string& line : log.messages) message += line + "\n";
    }
    CHECK(contains_text(message, "checkpoint-8"));
    CHECK(contains_text(message, "optimizer.safetensors: 100 bytes instead of"));
    fs::remove(folder.path() / "checkpoint-5" / "rng_state.json");
    CHECK(contains_text(error_of([&] { run(folder, folder.file("checkpoint-5")); }),
                        "rng_state.json: missing"));
  }

  TEST_CASE("nothing to resume from is said") {
    const TemporaryFolder folder;
    CHECK(contains_text(error_of([&] { run(folder, Resume::latest()); }),
                        "no valid checkpoint found in output directory"));
    CHECK(contains_text(error_of([&] { run(folder, folder.file("checkpoint-9")); }),
                        "can't find a valid checkpoint at"));
    const Outcome expected = run(folder, Resume::latest_if_any());
    // All damaged is not none: starting over silently would hide a loss.
    for (const CheckpointPath& checkpoint : list_checkpoints(folder.path()))
      fs::remove(checkpoint.folder / "model.safetensors");
    const LogCapture quiet;
    CHECK(contains_text(error_of([&] { run(folder, Resume::latest_if_any()); }), "damaged"));
  }

  TEST_CASE("a full disk is an Error and leaves the previous checkpoint intact") {
    const OneThread one;
    const TemporaryFolder folder;
    run(folder, {}, [](TrainingArguments& args) {
      args.max_steps = 4;
      args.save_steps = 4;
    });
    const pid_t child = fork();
    if (child == 0) {
      std::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{20000, 20000};  // bytes a file may have: fewer than the model's
      setrlimit(RLIMIT_FSIZE, &limit);
      set_log_level(LogLevel::critical);
      const std::string message = error_of([&] { run(folder, Resume::latest()); });
      _exit(contains_text(message, "safetensors") ? 42 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 42);
    REQUIRE(list_checkpoints(folder.path()).size() == 1);
    CHECK(checkpoint_faults(folder.path() / "checkpoint-4").empty());
  }

  TEST_CASE("SIGTERM saves and stops, and the resumed run is the same") {
    struct Terminate : TrainerCallback {
      void on_step_begin(CallbackContext& c) override {
        if (c.state.global_step == 2) std::raise(SIGTERM);
      }
    };
    const TemporaryFolder whole, folder;
    const auto rare = [](TrainingArguments& args) {
      args.save_steps = 100;
      args.enable_jit_checkpoint = true;
    };
    const Outcome expected = run(whole, {}, rare);
    {
      TrainingArguments args = eventful_args(folder);
      rare(args);
      manual_seed(7);
      nn::models::Gpt2 model(tiny_gpt_config());
      Trainer trainer(model, args, {.train_dataset = letters(13), .eval_dataset = letters(3)});
      silence(trainer);
      trainer.add_callback<Terminate>();
      const LogCapture quiet;
      CHECK(trainer.train().global_step == 3);
    }
    REQUIRE(list_checkpoints(folder.path()).size() == 1);
    check_equal(run(folder, Resume::latest(), rare), expected);
  }

  TEST_CASE("other batches than the checkpoint's: the position follows from the step") {
    const TemporaryFolder folder, again;
    run(folder, {});
    const LogCapture log;
    TrainingArguments args = eventful_args(again);
    args.per_device_train_batch_size = 4;  // 4 batches, 2 steps a pass, 4 in all
    nn::models::Gpt2 model(tiny_gpt_config());
    Trainer trainer(model, args, {.train_dataset = letters(13), .eval_dataset = letters(3)});
    silence(trainer);
    trainer.train(folder.file("checkpoint-3"));
    CHECK(trainer.state().global_step == 4);
    CHECK(trainer.state().epoch == 2.0);
    bool warned = false;
    for (const std::string& line : log.messages)
      warned |= contains_text(line, "per_device_train_batch_size: 4 (from args) != 2");
    CHECK(warned);
  }

  TEST_CASE("a checkpoint of the model alone says what begins anew") {
    const TemporaryFolder folder;
    run(folder, {}, [](TrainingArguments& args) { args.save_only_model = true; });
    CHECK_FALSE(fs::exists(folder.path() / "checkpoint-8" / "optimizer.safetensors"));
    const LogCapture log;
    run(folder, folder.file("checkpoint-3"));
    bool warned = false;
    for (const std::string& line : log.messages) warned |= contains_text(line, "save_only_model");
    CHECK(warned);
  }
}
