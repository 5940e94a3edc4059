// What the Trainer costs over a bare training loop, and how long a step waits for its data.
//
//   bench_trainer                                     the model of 6 layers and 384 channels
//   bench_trainer --n_layer 4 --n_head 4 --n_embd 128 --context 64 --steps 40 --rounds 9
//
// Both train the same model on batches of the same shape with clipping and AdamW, in turn, round
// after round; times are medians over all steps but the first two of a round.
#include <tendril/tendril.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

using namespace tendril;
using Clock = std::chrono::steady_clock;

struct Options {
  int64_t n_layer = 6, n_head = 6, n_embd = 384, context = 256, batch_size = 12;
  int64_t steps = 6, rounds = 5, workers = 0;
  int threads = 0;
};

constexpr int64_t kWarmUp = 2;  // steps of a round that are not counted

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

nn::models::Gpt2Config config_of(const Options& o) {
  return {.vocab_size = 256,
          .n_positions = o.context,
          .n_layer = o.n_layer,
          .n_head = o.n_head,
          .n_embd = o.n_embd,
          .embd_pdrop = 0.0,
          .attn_pdrop = 0.0,
          .resid_pdrop = 0.0};
}

void run_bare(const Options& o, nn::models::Gpt2& model, const Batch& batch,
              std::vector<double>& steps) {
  optim::AdamW optimizer(model.named_parameters(), {.lr = 1e-4});
  const std::vector<Tensor> parameters = optimizer.parameters();
  for (int64_t step = 0; step < o.steps; ++step) {
    const auto start = Clock::now();
    optimizer.zero_grad();
    model.loss(batch.at("input_ids"), batch.at("shift_labels")).backward();
    optim::clip_grad_norm(parameters, 1.0);
    optimizer.step();
    if (step >= kWarmUp) steps.push_back(seconds_since(start));
  }
}

// From the end of one step to the end of the next, and the part before the step's first event.
struct StepClock : TrainerCallback {
  std::vector<double>& steps;
  std::vector<double>& waits;
  Clock::time_point last;
  StepClock(std::vector<double>& steps, std::vector<double>& waits) : steps(steps), waits(waits) {}
  void on_step_begin(CallbackContext& c) override {
    if (c.state.global_step >= kWarmUp) waits.push_back(seconds_since(last));
  }
  void on_step_end(CallbackContext& c) override {
    if (c.state.global_step > kWarmUp) steps.push_back(seconds_since(last));
    last = Clock::now();
  }
};

int main(int argc, char** argv) {
  Options o;
  ArgumentParser parser("bench_trainer", "What the Trainer costs over a bare training loop.");
  parser.add("--n_layer", o.n_layer, "Transformer blocks");
  parser.add("--n_head", o.n_head, "Attention heads");
  parser.add("--n_embd", o.n_embd, "Channels");
  parser.add("--context", o.context, "Sequence length");
  parser.add("--batch_size", o.batch_size, "Sequences per step");
  parser.add("--steps", o.steps, "Steps of a round, the first two of them not counted");
  parser.add("--rounds", o.rounds, "Rounds of each");
  parser.add("--workers", o.workers, "dataloader_num_workers");
  parser.add("--threads", o.threads, "CPU threads; 0 takes all cores");
  parser.parse_or_exit(argc, argv);
  if (o.threads > 0) set_num_threads(o.threads);

  std::string text(200000, ' ');
  const RandomKey key{1, 0, Stream::data};
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + key.bits(i) % 26);
  const auto data = TextDataset::bytes(text, o.context, /*stride=*/1);
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / "tendril_bench_trainer";

  manual_seed(1);
  nn::models::Gpt2 bare_model(config_of(o)), trained_model(config_of(o));
  std::vector<Example> examples;
  for (int64_t b = 0; b < o.batch_size; ++b) examples.push_back(data->get(b * o.context));
  const Batch batch = default_data_collator(examples);

  TrainingArguments args;
  args.output_dir = folder.string();
  args.max_steps = o.steps;
  args.per_device_train_batch_size = o.batch_size;
  args.learning_rate = 1e-4;
  args.save_strategy = SaveStrategy::no;
  args.logging_strategy = IntervalStrategy::no;
  args.use_cpu = args.disable_tqdm.emplace(true);
  args.dataloader_num_workers = o.workers;

  std::vector<double> bare, trainer_steps, waits;
  for (int64_t round = 0; round < o.rounds; ++round) {
    run_bare(o, bare_model, batch, bare);
    Trainer trainer(trained_model, args, {.train_dataset = data});
    trainer.remove_callback("PrinterCallback");
    trainer.add_callback<StepClock>(trainer_steps, waits);
    trainer.train();
  }
  std::filesystem::remove_all(folder);
  std::printf(
      "bare loop   %.3f ms per step\nTrainer     %.3f ms per step, ratio %.4f\n"
      "of it data  %.3f ms, %.3f %%\n",
      median(bare) * 1e3, median(trainer_steps) * 1e3, median(trainer_steps) / median(bare),
      median(waits) * 1e3, 100.0 * median(waits) / median(trainer_steps));
  return 0;
}
