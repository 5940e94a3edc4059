// Speed of a whole training step of a GPT: forward, backward, gradient clipping, AdamW.
//
//   bench_step                                        nanoGPT's CPU setting
//   bench_step --n_layer 12 --n_head 12 --n_embd 768 --context 256 --vocab_size 50257
//   bench_step --device cuda --bf16 --n_layer 12 --n_head 12 --n_embd 768 --context 1024
//     --vocab_size 50304 --batch_size 32
//   bench_step --json                                 one line for programs (compare_pytorch.py)
#include <tendril/tendril.h>

#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "step_timing.h"

using namespace tendril;

struct Options {
  int64_t n_layer = 4, n_head = 4, n_embd = 128, vocab_size = 256, context = 64, batch_size = 12;
  int64_t steps = 50, warmup = 5;
  int threads = 0;
  uint64_t seed = 1;
  std::string device = "cpu";
  bool json = false, use_bf16 = false, autocast = false;
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
  app.add_option("--device", o.device, "Where to train")->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_flag("--json", o.json, "Print one JSON object on one line");
  CLI::Option* bf16_weights = app.add_flag(
      "--bf16", o.use_bf16, "Weights and activations in bf16, f32 masters in the optimizer");
  app.add_flag("--autocast", o.autocast, "f32 weights, matrix products in bf16 (AutocastGuard)")
      ->excludes(bf16_weights);
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
  const Device device = o.device == "cuda" ? Device::cuda() : Device::cpu();
  model.to(device);
  const std::vector<Tensor> parameters = model.parameters();
  optim::AdamW optimizer(parameters, {.lr = 1e-4});
  const Tensor tokens = to(randint(0, o.vocab_size, {o.batch_size, o.context}), device);
  const Tensor targets = to(randint(0, o.vocab_size, {o.batch_size, o.context}), device);
  const auto forward = [&] {
    const AutocastGuard precision(o.autocast ? std::optional(bf16) : std::nullopt);
    return model.loss(tokens, targets);
  };
  Tensor loss;
  const auto step = [&] {
    optimizer.zero_grad();
    loss = forward();
    loss.backward();
    optim::clip_grad_norm_async(parameters, 1.0);
    optimizer.step();
    loss = loss.detach();  // a GPU goes on: the loss is read at the end
  };
  const double count = static_cast<double>(o.batch_size * o.context);
  const bench::StepTiming timing = bench::time_steps(o.warmup, o.steps, step, device);
  const double last = loss.item<double>();
  TENDRIL_CHECK(std::isfinite(last), "[bench_step] the loss must stay finite; got ", last);
  bench::print_timing(timing, model.flops_per_token(o.context) * count, count, o.json);
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
