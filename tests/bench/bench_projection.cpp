// What a new basis of GaLore costs: the exact singular value decomposition and the randomised range
// finder on the same gradient, in turn.
//
//   bench_projection                             768 x 3072, rank 128, on 1 and 2 threads
//   bench_projection --rows 1024 --columns 4096 --rank 256 --threads 1 --rounds 3
#include <tendril/tendril.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/threads.h>
#include <tendril/optim/low_rank.h>

using namespace tendril;
using Clock = std::chrono::steady_clock;

namespace {

struct Options {
  int64_t rows = 768, columns = 3072, rank = 128;
  int rounds = 5;
  std::vector<int> threads = {1, 2};
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// A product of noise and a decaying spectrum, with noise on top, as gradients have it.
Tensor make_gradient(const Options& o) {
  const int64_t inner = std::min(o.rows, o.columns);
  const Tensor left = randn({o.rows, inner}, f32, RandomKey{.seed = 1});
  const Tensor right = randn({inner, o.columns}, f32, RandomKey{.seed = 2});
  const Tensor spectrum = exp(arange(inner) * (-8.0 / static_cast<double>(inner)));
  return matmul(left * spectrum, right) +
         randn({o.rows, o.columns}, f32, RandomKey{.seed = 3}) * 0.1;
}

double seconds_of_basis(const Tensor& gradient, const Options& o, bool randomized) {
  const optim::ProjectionOptions options = {
      .rank = o.rank, .type = optim::ProjectionType::left, .randomized = randomized};
  const optim::Basis basis{Tensor::empty({o.rows, o.rank}, f32), {}};
  const auto start = Clock::now();
  optim::find_basis(basis, gradient, options, {.seed = 4});
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void run(const Options& o, int threads) {
  set_num_threads(threads);
  const Tensor gradient = make_gradient(o);
  std::vector<double> exact, randomized;
  seconds_of_basis(gradient, o, true);
  for (int round = 0; round < o.rounds; ++round) {
    exact.push_back(seconds_of_basis(gradient, o, false));
    for (int i = 0; i < 5; ++i) randomized.push_back(seconds_of_basis(gradient, o, true));
  }
  std::printf(
      "%lld x %lld, rank %lld, %d threads, kernels for %s: exact %.1f ms, randomised %.1f "
      "ms, 1 / %.1f\n",
      static_cast<long long>(o.rows), static_cast<long long>(o.columns),
      static_cast<long long>(o.rank), threads, cpu::isa_name(), median(exact) * 1e3,
      median(randomized) * 1e3, median(exact) / median(randomized));
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const int value = i + 1 == argc ? 0 : std::atoi(argv[i + 1]);
    TENDRIL_CHECK(value > 0, "[bench_projection] ", argv[i], " needs a positive number");
    if (!std::strcmp(argv[i], "--rows"))
      options.rows = value;
    else if (!std::strcmp(argv[i], "--columns"))
      options.columns = value;
    else if (!std::strcmp(argv[i], "--rank"))
      options.rank = value;
    else if (!std::strcmp(argv[i], "--threads"))
      options.threads = {value};
    else if (!std::strcmp(argv[i], "--rounds"))
      options.rounds = value;
    else
      fail("[bench_projection] there are --rows, --columns, --rank, --threads and --rounds; got ",
           argv[i]);
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = parse(argc, argv);
    for (const int threads : options.threads) run(options, threads);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
