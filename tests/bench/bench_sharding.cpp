// What sharding keeps, sends and hides, on ranks that are threads:
//   bytes kept per rank after a step (weights, gradients, AdamW's moments), beside the formula;
//   bytes sent per rank and step, beside theory;
//   the time of a step over a link of given speed, beside computing and sending one after the
//   other.
//
//   bench_sharding [--layers 4] [--channels 256] [--steps 5] [--link_mb_s 200]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include <tendril/core/allocator.h>
#include <tendril/core/creation.h>
#include <tendril/core/random.h>
#include <tendril/core/threads.h>
#include <tendril/dist/fully_sharded.h>
#include <tendril/dist/in_process.h>
#include <tendril/nn/models/gpt2.h>
#include <tendril/optim/adamw.h>

namespace {

using namespace tendril;
using dist::ShardingStrategy;
using Clock = std::chrono::steady_clock;
using Group = std::shared_ptr<dist::ProcessGroup>;

struct Setting {
  int64_t layers = 4, channels = 256, steps = 5;
  double link_mb_s = 200.0;
};

nn::models::Gpt2Config model_of(const Setting& setting) {
  return {.vocab_size = 256,
          .n_positions = 64,
          .n_layer = setting.layers,
          .n_head = 4,
          .n_embd = setting.channels,
          .embd_pdrop = 0.0,
          .attn_pdrop = 0.0,
          .resid_pdrop = 0.0};
}

double formula(ShardingStrategy strategy, double ranks) {  // f32 bytes per parameter
  switch (strategy) {
    case ShardingStrategy::full_shard:
      return 16.0 / ranks;
    case ShardingStrategy::shard_grad_op:
      return 4.0 + 12.0 / ranks;
    default:
      return 16.0;
  }
}

struct Measured {
  int64_t kept = 0, peak = 0, sent = 0;
  double seconds = 0.0;  // median of a step
};

Measured measure(const Setting& setting, int ranks, ShardingStrategy strategy, bool prefetch,
                 const dist::InProcessOptions& link) {
  Measured result;
  const int64_t before = memory_stats().current_bytes;
  dist::run_ranks(
      ranks,
      [&](const Group& group) {
        manual_seed(1);
        nn::models::Gpt2 model(model_of(setting));
        dist::FullySharded fsdp(model, group,
                                {.strategy = strategy,
                                 .wrap = dist::wrap_class({"Gpt2Block"}),
                                 .forward_prefetch = prefetch,
                                 .backward_prefetch = prefetch ? dist::BackwardPrefetch::pre
                                                               : dist::BackwardPrefetch::none});
        optim::AdamW optimizer(fsdp.named_parameters(), {.lr = 1e-4});
        const Tensor tokens = randint(0, 256, {4, 64});
        std::vector<double> times;
        for (int64_t step = 0; step < setting.steps + 2; ++step) {
          group->barrier().wait();
          if (group->rank() == 0 && step == 1) reset_peak_memory_stats();
          group->reset_traffic();
          const auto start = Clock::now();
          model.loss(tokens, tokens).backward();
          const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
          if (step >= 2) times.push_back(seconds);
          const int64_t sent = group->traffic().sent_bytes;
          optimizer.step();
          group->barrier().wait();
          if (group->rank() == 0) {
            result.kept = (memory_stats().current_bytes - before) / ranks;
            result.peak = (memory_stats().peak_bytes - before) / ranks;
            result.sent = sent;
          }
          group->barrier().wait();
          optimizer.zero_grad();
        }
        if (group->rank() == 0) {
          std::sort(times.begin(), times.end());
          result.seconds = times[times.size() / 2];
        }
      },
      link);
  return result;
}

void print_bytes(const Setting& setting) {
  const auto parameters = static_cast<double>(model_of(setting).parameter_count());
  std::printf("GPT-2 %lld x %lld, %.2f M parameters, f32, AdamW\n",
              static_cast<long long>(setting.layers), static_cast<long long>(setting.channels),
              parameters / 1e6);
  std::printf("%-14s %5s %12s %9s %7s %12s %12s %10s\n", "strategy", "ranks", "kept B/param",
              "formula", "ratio", "peak B/param", "sent MB/step", "theory MB");
  for (const ShardingStrategy strategy :
       {ShardingStrategy::no_shard, ShardingStrategy::shard_grad_op, ShardingStrategy::full_shard})
    for (const int ranks : {1, 2, 4}) {
      const Measured m = measure(setting, ranks, strategy, true, {});
      const double kept = static_cast<double>(m.kept) / parameters, n = ranks;
      const double expected = formula(strategy, n);
      const double volumes = strategy == ShardingStrategy::full_shard ? 3.0 : 2.0;
      std::printf("%-14s %5d %12.3f %9.3f %7.3f %12.3f %12.3f %10.3f\n", dist::name(strategy),
                  ranks, kept, expected, kept / expected, static_cast<double>(m.peak) / parameters,
                  static_cast<double>(m.sent) / 1e6,
                  volumes * 4.0 * parameters * (n - 1) / n / 1e6);
    }
}

void print_overlap(const Setting& setting) {
  const dist::InProcessOptions link{.bytes_per_second = setting.link_mb_s * 1e6};
  std::printf("\n2 ranks, one thread each, link %.0f MB/s: milliseconds of forward and backward\n",
              setting.link_mb_s);
  std::printf("%-14s %9s %9s %9s %12s %9s %7s\n", "strategy", "compute", "sending", "sum",
              "no prefetch", "prefetch", "of sum");
  for (const ShardingStrategy strategy :
       {ShardingStrategy::no_shard, ShardingStrategy::shard_grad_op,
        ShardingStrategy::full_shard}) {
    const Measured free = measure(setting, 2, strategy, true, {});
    const Measured one_by_one = measure(setting, 2, strategy, false, link);
    const Measured ahead = measure(setting, 2, strategy, true, link);
    const double sending = static_cast<double>(ahead.sent) / link.bytes_per_second;
    const double sum = free.seconds + sending;
    std::printf("%-14s %9.1f %9.1f %9.1f %12.1f %9.1f %7.2f\n", dist::name(strategy),
                free.seconds * 1e3, sending * 1e3, sum * 1e3, one_by_one.seconds * 1e3,
                ahead.seconds * 1e3, ahead.seconds / sum);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Setting setting;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const double value = std::atof(argv[i + 1]);
    if (flag == "--layers") setting.layers = static_cast<int64_t>(value);
    if (flag == "--channels") setting.channels = static_cast<int64_t>(value);
    if (flag == "--steps") setting.steps = static_cast<int64_t>(value);
    if (flag == "--link_mb_s") setting.link_mb_s = value;
  }
  set_num_threads(1);
  print_bytes(setting);
  print_overlap(setting);
}
