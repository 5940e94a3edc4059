// Speed of a whole training step of a GPT: forward, backward, gradient clipping, AdamW.
//
//   bench_step                                        nanoGPT's CPU setting
//   bench_step --n_layer 12 --n_head 12 --n_embd 768 --context 256 --batch_size 2 --vocab_size
//   50257 bench_step --json                                 one line for programs
//   (compare_pytorch.py)
#include <tendril/core/cpu/isa.h>
#include <tendril/tendril.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include <CLI/CLI.hpp>

using namespace tendril;

struct Options {
  int64_t n_layer = 4, n_head = 4, n_embd = 128, vocab_size = 256, context = 64, batch_size = 12;
  int64_t steps = 50, warmup = 5;
  int threads = 0;
  uint64_t seed = 1;
  bool json = false, use_bf16 = false;
};

void declare(CLI::App& app, Options& o) {
  app.option_defaults()->always_capture_default();
  const auto positive = [&app](const char* name, auto& value, const char* text) {
    app.add_option(name, value, text)->check(CLI::Range(1, 1 << 30));
  };
  positive("--n_layer", o.n_layer, "Transformer blocks");
  positive("--n_head", o.n_head, "Attention heads");
  positive("--n_embd", o.n_embd, "Channels");
  positive("--vocab_size", o.vocab_size, "Tokens");
  positive("--context", o.context, "Sequence length");
  positive("--batch_size", o.batch_size, "Sequences per step");
  positive("--steps", o.steps, "Measured steps");
  positive("--warmup", o.warmup, "Steps before the measurement");
  positive("--threads", o.threads, "CPU threads; all cores without it");
  app.add_flag("--json", o.json, "Print one JSON object on one line");
  app.add_flag("--bf16", o.use_bf16, "Weights and activations in bf16, f32 masters in the optimizer");
}

// Seconds of each measured step, and the loss after the last.
struct Result {
  std::vector<double> seconds;
  double loss = 0.0;
};

Result measure(nn::models::Gpt2& model, const Options& o) {
  using Clock = std::chrono::steady_clock;
  const std::vector<Tensor> parameters = model.parameters();
  optim::AdamW optimizer(parameters, {.lr = 1e-4});
  const Tensor tokens = randint(0, o.vocab_size, {o.batch_size, o.context});
  const Tensor targets = randint(0, o.vocab_size, {o.batch_size, o.context});
  Result result;
  for (int64_t step = 0; step < o.warmup + o.steps; ++step) {
    if (step == o.warmup) reset_peak_memory_stats();
    const auto start = Clock::now();
    optimizer.zero_grad();
    const Tensor loss = model.loss(tokens, targets);
    loss.backward();
    optim::clip_grad_norm(parameters, 1.0);
    optimizer.step();
    result.loss = loss.item<double>();
    if (step >= o.warmup)
      result.seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  return result;
}

int run(const Options& o) {
  if (o.threads > 0) set_num_threads(o.threads);
  manual_seed(o.seed);
  nn::models::Gpt2 model({.vocab_size = o.vocab_size,
                          .n_positions = o.context,
                          .n_layer = o.n_layer,
                          .n_head = o.n_head,
                          .n_embd = o.n_embd,
                          .embd_pdrop = 0.0,
                          .attn_pdrop = 0.0,
                          .resid_pdrop = 0.0});
  if (o.use_bf16) model.to(bf16);  // the optimizer then keeps f32 masters
  Result result = measure(model, o);

  // The median is what a quiet machine gives; other programs only make steps slower.
  std::sort(result.seconds.begin(), result.seconds.end());
  const double median = result.seconds[result.seconds.size() / 2];
  const double tokens = static_cast<double>(o.batch_size * o.context);
  const double gflops = model.flops_per_token(o.context) * tokens / median * 1e-9;
  const long long peak = memory_stats().peak_bytes;
  if (o.json) {
    std::printf(
        "{\"tokens_per_second\": %.1f, \"model_gflops\": %.2f, \"peak_bytes\": %lld, "
        "\"step_seconds\": %.6f, "
        "\"loss\": %.6f, \"parameters\": %lld, \"threads\": %d}\n",
        tokens / median, gflops, peak, median, result.loss,
        static_cast<long long>(model.parameter_count()), num_threads());
    return 0;
  }
  std::printf("parameters     %lld\nthreads        %d, kernels for %s\n",
              static_cast<long long>(model.parameter_count()), num_threads(), cpu::isa_name());
  std::printf(
      "step           %.3f ms (median of %lld)\ntokens/s       %.0f\nmodel GFLOP/s  %.1f\npeak "
      "memory    %.1f MiB\n",
      median * 1e3, static_cast<long long>(o.steps), tokens / median, gflops,
      static_cast<double>(peak) / (1 << 20));
  return 0;
}

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Measures a training step of a GPT.", "bench_step");
  declare(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
