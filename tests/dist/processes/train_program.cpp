// Trains a small sharded GPT with the Trainer, as a program under mpirun would, and goes on from
// its last checkpoint when it is started again. Prints "final loss <number>" when it is done.
// Waits with three steps left as long as there is a file FOLDER.hold, so that whoever wants to
// interrupt it cannot come too late.
//
//   train_program FOLDER STEPS MILLISECONDS_PER_STEP FSDP DROPOUT
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include <tendril/dist/environment.h>
#include <tendril/nn/models/gpt2.h>
#include <tendril/trainer/data/text_dataset.h>
#include <tendril/trainer/trainer.h>

namespace {

using namespace tendril;

struct Pause : TrainerCallback {
  std::chrono::milliseconds pause;
  explicit Pause(int64_t milliseconds) : pause(milliseconds) {}
  void on_step_begin(CallbackContext& c) override {
    std::this_thread::sleep_for(pause);
    if (c.state.global_step + 3 != c.state.max_steps) return;
    while (std::filesystem::exists(c.args.output_dir + ".hold"))
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
};

// 40 steps of 12 windows: every pass ends with a whole step.
std::shared_ptr<const Dataset> letters() {
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i <= 8 * 480; ++i) tokens.push_back((i * i + i / 3) % 16);
  return TextDataset::tokens(tokens, 8);
}

int run(const char* folder, int64_t steps, int64_t milliseconds, const char* fsdp, double dropout) {
  manual_seed(1);
  nn::models::Gpt2 model({.vocab_size = 16,
                          .n_positions = 8,
                          .n_layer = 2,
                          .n_head = 2,
                          .n_embd = 16,
                          .embd_pdrop = dropout,
                          .attn_pdrop = dropout,
                          .resid_pdrop = dropout});
  TrainingArguments args;
  args.output_dir = folder;
  args.use_cpu = true;
  args.disable_tqdm = true;
  args.report_to = {"none"};
  args.max_steps = steps;
  args.learning_rate = 1e-3;
  args.per_device_train_batch_size = 12 / dist::LaunchEnvironment::read().world_size;
  args.logging_steps = 1;
  args.save_strategy = SaveStrategy::steps;
  args.save_steps = 3;
  args.save_total_limit = 2;
  args.fsdp = fsdp;
  args.ddp_timeout = 60;
  args.enable_jit_checkpoint = true;
  Trainer trainer(model, args, {.train_dataset = letters()});
  trainer.remove_callback("PrinterCallback");
  trainer.add_callback<Pause>(milliseconds);
  trainer.train(Resume::latest_if_any());
  double loss = 0.0;
  for (const Json& row : trainer.state().log_history)
    if (const Json* value = row.find("loss")) loss = value->as_double();
  if (trainer.is_world_process_zero()) std::printf("final loss %.17g\n", loss);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  try {
    return run(argv[1], std::atoll(argv[2]), std::atoll(argv[3]), argv[4], std::atof(argv[5]));
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
