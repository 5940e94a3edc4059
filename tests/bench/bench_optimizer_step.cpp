// The step of AdamW and of Lion with f32 and with 8-bit states, on the same parameters and
// gradients, in turn, beside the rate of x = x + s y over arrays that fit no cache.
//
//   bench_optimizer_step                         16M and 124M parameters on 1 and 2 threads
//   bench_optimizer_step --rounds 5 --millions 16 --threads 1
//   bench_optimizer_step --threads 1 --cpu_time 1   where other programs take turns on the cores
//
// Bytes are those that a step must at least move: parameter (read and written), gradient, states
// (read and written) and, with 8 bits, one f32 per block and state.
#include <tendril/tendril.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/threads.h>

using namespace tendril;

namespace {

constexpr int64_t kMillion = 1'000'000;
constexpr int64_t kTensor = 4 * kMillion;  // elements of one parameter, as in a large layer

struct Options {
  std::vector<int64_t> millions = {16, 124};
  std::vector<int> threads = {1, 2};
  int rounds = 11;
  bool cpu_time = false;  // the process's time on the cores, over the number of threads
};

double seconds_of(const Options& options, const auto& work) {
  const auto now = [&] {
    timespec time{};
    clock_gettime(options.cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  };
  const double start = now();
  work();
  return (now() - start) / (options.cpu_time ? num_threads() : 1);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

struct Contender {
  const char* name;
  double bytes;  // per parameter
  std::unique_ptr<optim::Optimizer> optimizer;
  std::vector<double> seconds = {};
};

std::vector<NamedTensor> make_parameters(int64_t count) {
  std::vector<NamedTensor> parameters;
  for (int64_t done = 0; done < count; done += kTensor) {
    const int64_t size = std::min(kTensor, count - done);
    const auto position = static_cast<uint64_t>(done);
    Tensor parameter = randn({size}, f32, RandomKey{.seed = 1, .position = position});
    parameter.requires_grad_();
    parameter.set_grad(randn({size}, f32, RandomKey{.seed = 2, .position = position}));
    parameters.push_back({std::to_string(done), parameter});
  }
  return parameters;
}

// Two arrays of 64 MiB; 12 bytes per element.
double triad_rate(const Options& options) {
  constexpr int64_t kCount = int64_t{1} << 24;
  const Tensor x = zeros({kCount}), y = ones({kCount});
  std::vector<double> seconds;
  for (int round = 0; round < options.rounds; ++round)
    seconds.push_back(seconds_of(options, [&] {
      parallel_for(kCount, 1 << 15,
                   [to = x.data<float>(), from = y.data<float>()](int64_t begin, int64_t end) {
#pragma GCC ivdep
                     for (int64_t i = begin; i < end; ++i) to[i] = to[i] + 3.0f * from[i];
                   });
    }));
  return 12.0 * kCount / median(seconds);
}

void run(const Options& options, int64_t count, int threads) {
  set_num_threads(threads);
  const std::vector<NamedTensor> parameters = make_parameters(count);
  std::vector<Contender> contenders;
  const double scales = 8.0 / 256.0;
  contenders.push_back({"AdamW", 28.0, std::make_unique<optim::AdamW>(parameters)});
  contenders.push_back(
      {"8-bit AdamW", 16.0 + 2 * scales, std::make_unique<optim::AdamW8bit>(parameters)});
  contenders.push_back({"Lion", 20.0, std::make_unique<optim::Lion>(parameters)});
  contenders.push_back(
      {"8-bit Lion", 14.0 + scales, std::make_unique<optim::Lion8bit>(parameters)});
  for (int round = -2; round < options.rounds; ++round)  // the first two are not counted
    for (Contender& contender : contenders) {
      const double seconds = seconds_of(options, [&] { contender.optimizer->step(); });
      if (round >= 0) contender.seconds.push_back(seconds);
    }
  const double triad = triad_rate(options);
  std::printf("\n%lldM parameters, %d threads, kernels for %s; triad %.1f GB/s\n",
              static_cast<long long>(count / kMillion), threads, cpu::isa_name(), triad * 1e-9);
  std::printf("%-12s %9s %9s %8s %10s %9s\n", "", "ms", "ns/param", "GB/s", "of triad", "to AdamW");
  const double reference = median(contenders[0].seconds);
  for (const Contender& contender : contenders) {
    const double seconds = median(contender.seconds);
    const double rate = contender.bytes * static_cast<double>(count) / seconds;
    std::printf("%-12s %9.2f %9.3f %8.1f %9.0f%% %9.2f\n", contender.name, seconds * 1e3,
                seconds * 1e9 / static_cast<double>(count), rate * 1e-9, 100.0 * rate / triad,
                seconds / reference);
  }
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const bool last = i + 1 == argc;
    const int value = last ? 0 : std::atoi(argv[i + 1]);
    TENDRIL_CHECK(value > 0, "[bench_optimizer_step] ", argv[i], " needs a positive number");
    if (!std::strcmp(argv[i], "--millions"))
      options.millions = {value};
    else if (!std::strcmp(argv[i], "--threads"))
      options.threads = {value};
    else if (!std::strcmp(argv[i], "--rounds"))
      options.rounds = value;
    else if (!std::strcmp(argv[i], "--cpu_time"))
      options.cpu_time = true;
    else
      fail("[bench_optimizer_step] there are --millions, --threads, --rounds and --cpu_time; got ",
           argv[i]);
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = parse(argc, argv);
    for (const int64_t millions : options.millions)
      for (const int threads : options.threads) run(options, millions * kMillion, threads);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
