// Memory and speed of every optimizer that the Trainer knows by name, on one model.
//
//   bench_optimizers                                  GPT-2 124M, one sequence of 128 tokens
//   bench_optimizers --only adamw_torch lomo adalomo --steps 5
//
// Each runs in a process of its own, one after the other. Columns, in MiB of tensors:
//   state       what the first step left behind; beside it Optimizer::state_bytes(), the formula
//   gradients   the most that parameters held at any moment when one had become complete
//   step peak   the most that was held during a step
//   above       step peak, less weights, state and what a pass needs that drops each gradient as
//               soon as it is complete: the optimizer's part
#include <sys/wait.h>
#include <tendril/optim/layerwise.h>
#include <tendril/tendril.h>
#include <tendril/trainer/decay_parameters.h>
#include <tendril/trainer/optimizer_choice.h>
#include <tendril/trainer/target_modules.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "step_timing.h"

using namespace tendril;

namespace {

constexpr double kMiB = 1 << 20;

// Rates do not matter here, but weights must stay finite. Random bases, as exact ones of 48
// matrices take minutes.
const std::vector<std::string> kNames = {"adamw_torch",
                                         "adam",
                                         "sgd",
                                         "adagrad",
                                         "rmsprop",
                                         "adafactor",
                                         "lion_32bit",
                                         "ademamix",
                                         "stable_adamw",
                                         "schedule_free_adamw",
                                         "schedule_free_sgd",
                                         "muon",
                                         "adamw_8bit",
                                         "lion_8bit",
                                         "galore_adamw",
                                         "galore_adamw_8bit",
                                         "apollo_adamw",
                                         "galore_adafactor",
                                         "lomo",
                                         "adalomo",
                                         "sgd_layerwise",
                                         "adamw_torch_layerwise",
                                         "adafactor_layerwise",
                                         "adamw_8bit_layerwise",
                                         "galore_adamw_layerwise"};

struct Options {
  std::vector<std::string> only;
  nn::models::Gpt2Config model;
  int64_t context = 128, batch_size = 1, steps = 3;
  bool use_bf16 = false;
};

struct Row {
  int64_t parameters = 0, weights = 0, state = 0, state_by_formula = 0, gradients = 0, peak = 0,
          above = 0;
  double tokens_per_second = 0.0;
};

int64_t held() { return memory_stats().current_bytes; }

std::unique_ptr<optim::Optimizer> optimizer_for(nn::Module& model, const std::string& name) {
  TrainingArguments args;
  args.optim = name;
  args.learning_rate = 1e-5;
  ParameterGroups groups = parameter_groups(model, decay_parameter_names(model));
  if (name.starts_with("galore") || name.starts_with("apollo")) {
    args.optim_args = "rank=128, randomized=true";
    groups.targets = target_weights(model, std::vector<std::string>{"attn", "mlp"});
  }
  return make_optimizer(args, groups);
}

// Bytes that all gradients have now.
int64_t gradient_bytes(const std::vector<Tensor>& parameters) {
  int64_t bytes = 0;
  for (const Tensor& parameter : parameters)
    if (const Tensor gradient = parameter.grad(); gradient.defined()) bytes += gradient.nbytes();
  return bytes;
}

// The most memory of a pass that drops each gradient when it is complete.
template <class Pass>
int64_t peak_without_gradients(const std::vector<Tensor>& parameters, const Pass& pass) {
  std::vector<HookHandle> hooks;
  for (const Tensor& parameter : parameters)
    hooks.push_back(register_grad_complete_hook(parameter, [](Tensor& p) { p.set_grad({}); }));
  pass();
  reset_peak_memory_stats();
  pass();
  for (HookHandle& hook : hooks) hook.remove();
  return memory_stats().peak_bytes;
}

Row measure(const Options& o, const std::string& name) {
  manual_seed(1);
  const int64_t empty = held();
  nn::models::Gpt2 model(o.model);
  if (o.use_bf16) model.to(bf16);
  Row row{.parameters = model.parameter_count(), .weights = held() - empty};
  const std::vector<Tensor> parameters = model.parameters();
  const Tensor tokens = randint(0, o.model.vocab_size, {o.batch_size, o.context});
  const auto pass = [&] { model.loss(tokens, tokens).backward(); };
  const int64_t without = peak_without_gradients(parameters, pass);

  // Before the optimizer's own hooks, so that these see what it frees.
  std::vector<HookHandle> hooks;
  for (const Tensor& parameter : parameters)
    hooks.push_back(register_grad_complete_hook(parameter, [&](Tensor&) {
      row.gradients = std::max(row.gradients, gradient_bytes(parameters));
    }));
  const auto optimizer = optimizer_for(model, name);
  const auto step = [&] {
    pass();
    optimizer->step();
    optimizer->zero_grad();
  };
  const int64_t before = held();
  step();
  row.state = held() - before;
  row.state_by_formula = optimizer->state_bytes();
  const bench::StepTiming timing = bench::time_steps(1, o.steps, step);
  row.peak = timing.peak_bytes;
  row.above = timing.peak_bytes - row.state - without;
  row.tokens_per_second = static_cast<double>(o.batch_size * o.context) / timing.median_seconds;
  TENDRIL_CHECK(std::isfinite(model.loss(tokens, tokens).item<double>()),
                "[bench_optimizers] the loss of ", name, " must stay finite");
  return row;
}

void print_row(const std::string& name, const Row& r) {
  std::printf("| %s | %.1f | %.1f | %.3f | %.1f | %.1f | %.1f | %.1f |\n", name.c_str(),
              static_cast<double>(r.state) / kMiB, static_cast<double>(r.state_by_formula) / kMiB,
              static_cast<double>(r.state_by_formula) / static_cast<double>(r.parameters),
              static_cast<double>(r.gradients) / kMiB, static_cast<double>(r.peak) / kMiB,
              static_cast<double>(r.above) / kMiB, r.tokens_per_second);
}

// What the column "above" is above, with no optimizer.
void print_pass(const Options& o) {
  nn::models::Gpt2 model(o.model);
  if (o.use_bf16) model.to(bf16);
  const int64_t weights = held();
  const Tensor tokens = randint(0, o.model.vocab_size, {o.batch_size, o.context});
  int64_t between = 0;
  const int64_t peak = peak_without_gradients(model.parameters(), [&] {
    const Tensor loss = model.loss(tokens, tokens);
    between = held();
    loss.backward();
  });
  std::printf(
      "%lld parameters, %.1f MiB of weights. A pass that drops each gradient takes %.1f MiB "
      "more, of which %.1f are held between forward and backward.\n\n",
      static_cast<long long>(model.parameter_count()), static_cast<double>(weights) / kMiB,
      static_cast<double>(peak - weights) / kMiB, static_cast<double>(between - weights) / kMiB);
}

// In a child, whose allocator has no history.
template <class Body>
bool run_in_child(const std::string& name, const Body& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  TENDRIL_CHECK(child >= 0, "[bench_optimizers] cannot start a process");
  if (child == 0) {
    int status = 0;
    try {
      body();
    } catch (const Error& error) {
      std::fprintf(stderr, "%s: %s\n", name.c_str(), error.what());
      status = 1;
    }
    std::fflush(nullptr);
    _exit(status);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void declare(CLI::App& app, Options& o) {
  app.option_defaults()->always_capture_default();
  const auto positive = [&app](const char* name, auto& value, const char* text) {
    app.add_option(name, value, text)->check(CLI::Range(1, 1 << 30));
  };
  positive("--n_layer", o.model.n_layer, "Transformer blocks");
  positive("--n_head", o.model.n_head, "Attention heads");
  positive("--n_embd", o.model.n_embd, "Channels");
  positive("--vocab_size", o.model.vocab_size, "Tokens");
  positive("--context", o.context, "Sequence length");
  positive("--batch_size", o.batch_size, "Sequences per step");
  positive("--steps", o.steps, "Measured steps, after two others");
  app.add_flag("--bf16", o.use_bf16, "Weights in bf16");
  app.add_option("--only", o.only, "These optimizers");
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  options.model.embd_pdrop = options.model.attn_pdrop = options.model.resid_pdrop = 0.0;
  CLI::App app("Measures what optimizers need.", "bench_optimizers");
  declare(app, options);
  CLI11_PARSE(app, argc, argv);
  bool all_ran = run_in_child("pass", [&] { print_pass(options); });
  std::printf(
      "| optim | state | by formula | bytes per parameter | gradients | step peak | above | "
      "tokens/s |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const std::string& name : options.only.empty() ? kNames : options.only)
    all_ran &= run_in_child(name, [&] { print_row(name, measure(options, name)); });
  return all_ran ? 0 : 1;
}
