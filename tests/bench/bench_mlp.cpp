// Speed of a training step so small that overhead rules: an MLP 784-128-10 on 32 samples, SGD.
//
//   bench_mlp [--threads N] [--json]
#include <tendril/tendril.h>

#include <CLI/CLI.hpp>

#include "step_timing.h"

using namespace tendril;

namespace {

constexpr int64_t kIn = 784, kHidden = 128, kOut = 10, kSamples = 32;

// Three products per layer; the gradient of the samples is not needed.
constexpr double kFlops = 2.0 * kSamples * (2 * kIn * kHidden + 3 * kHidden * kOut);

struct Mlp : nn::Module {
  nn::Linear up{kIn, kHidden}, down{kHidden, kOut};
  Mlp() { add("up", up), add("down", down); }
  Tensor forward(const Tensor& x) const { return down(relu(up(x))); }
};

}  // namespace

int main(int argc, char** argv) {
  int threads = 0;
  int64_t steps = 2000, warmup = 200;
  bool json = false;
  CLI::App app("Measures a training step of a small MLP.", "bench_mlp");
  app.option_defaults()->always_capture_default();
  app.add_option("--threads", threads, "CPU threads; all cores without it")
      ->check(CLI::Range(1, 1024));
  app.add_option("--steps", steps, "Measured steps")->check(CLI::Range(1, 1 << 30));
  app.add_option("--warmup", warmup, "Steps before the measurement")->check(CLI::Range(1, 1 << 30));
  app.add_flag("--json", json, "Print one JSON object on one line");
  CLI11_PARSE(app, argc, argv);
  if (threads > 0) set_num_threads(threads);

  manual_seed(1);
  const Mlp model;
  optim::Sgd optimizer(model.named_parameters(), {.lr = 0.1});
  const Tensor samples = randn({kSamples, kIn}), classes = randint(0, kOut, {kSamples});
  const auto step = [&] {
    optimizer.zero_grad();
    cross_entropy(model.forward(samples), classes).backward();
    optimizer.step();
  };
  bench::print_timing(bench::time_steps(warmup, steps, step), kFlops, kSamples, json);
}
