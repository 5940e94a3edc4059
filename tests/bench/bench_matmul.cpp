// Matrix products of transformer shapes, side by side with oneDNN where the build found it.
//
//   bench_matmul [--threads N] [--rounds R]
//
// For each shape and form both run in turn, round after round; the table shows the median of each
// and the ratio of the medians (above 1: faster than oneDNN), the last line their geometric means.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <vector>

#include <tendril/core/cpu/gemm.h>
#include <tendril/core/threads.h>
#include <CLI/CLI.hpp>

#ifdef TENDRIL_BENCH_ONEDNN
#include <omp.h>
#include <dnnl.hpp>
#endif

using namespace tendril;
using tendril::cpu::MatrixView;

namespace {

struct Product {
  int64_t M, N, K;
  bool a_transposed, b_transposed;
};

// NN as in attention and gradients of inputs, NT as in linear layers, TN as in gradients of
// weights.
constexpr Product kProducts[] = {
    {64, 64, 64, false, false},     {1024, 1024, 1024, false, false},
    {768, 128, 128, false, true},   {768, 512, 128, false, true},
    {768, 128, 512, false, true},   {768, 128, 512, false, false},
    {128, 512, 768, true, false},   {3072, 384, 384, false, true},
    {3072, 1152, 384, false, true}, {3072, 1536, 384, false, true},
    {3072, 384, 1536, false, true}, {3072, 384, 1536, false, false},
    {384, 1536, 3072, true, false}, {1536, 384, 3072, true, false},
    {3072, 65, 384, false, true},   {1024, 768, 768, false, true},
    {1024, 3072, 768, false, true}, {1024, 768, 3072, false, false},
    {768, 3072, 1024, true, false}, {1, 768, 768, false, true},
    {4, 3072, 768, false, true},    {16, 768, 3072, false, true},
    {256, 50257, 768, false, true}, {256, 64, 256, false, false},
    {256, 256, 64, false, true},
};

using Action = std::function<void()>;

double seconds_per_call(const Action& action, int calls) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / calls;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <class T>
struct Operands {
  explicit Operands(const Product& p)
      : a(static_cast<size_t>(p.M * p.K)),
        b(static_cast<size_t>(p.K * p.N)),
        c(static_cast<size_t>(p.M * p.N)) {
    for (size_t i = 0; i < a.size(); ++i) a[i] = T(static_cast<float>(i % 17) - 8.0f);
    for (size_t i = 0; i < b.size(); ++i) b[i] = T(static_cast<float>(i % 13) - 6.0f);
  }
  std::vector<T> a, b, c;
};

template <class T>
Action ours(const Product& p, Operands<T>& x) {
  const MatrixView a{x.a.data(), dtype_of<T>(), p.a_transposed ? 1 : p.K, p.a_transposed ? p.M : 1};
  const MatrixView b{x.b.data(), dtype_of<T>(), p.b_transposed ? 1 : p.N, p.b_transposed ? p.K : 1};
  return [=, &x] { tendril::cpu::gemm(p.M, p.N, p.K, a, b, x.c.data(), p.N); };
}

#ifdef TENDRIL_BENCH_ONEDNN

template <class T>
Action theirs(const Product& p, Operands<T>& x) {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  static dnnl::stream stream(engine);
  const auto type = sizeof(T) == 2 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  const auto memory = [&](int64_t rows, int64_t columns, bool transposed, T* data) {
    const auto tag = transposed ? dnnl::memory::format_tag::ba : dnnl::memory::format_tag::ab;
    return dnnl::memory(dnnl::memory::desc({rows, columns}, type, tag), engine, data);
  };
  const auto a = memory(p.M, p.K, p.a_transposed, x.a.data());
  const auto b = memory(p.K, p.N, p.b_transposed, x.b.data());
  const auto c = memory(p.M, p.N, false, x.c.data());
  const dnnl::matmul::desc description(a.get_desc(), b.get_desc(), c.get_desc());
  const dnnl::matmul product(dnnl::matmul::primitive_desc(description, engine));
  return [=]() mutable {
    product.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
    stream.wait();
  };
}

#endif

/// Runs one product both ways and prints its columns; returns the ratio (1 without oneDNN).
template <class T>
double compare(const Product& p, int rounds) {
  Operands<T> mine(p), other(p);
  const double flops = 2.0 * static_cast<double>(p.M * p.N * p.K);
  const int calls = std::max(1, static_cast<int>(1e8 / flops));
  std::vector<double> our_seconds, their_seconds;
  const Action our_action = ours(p, mine);
  our_action();
#ifdef TENDRIL_BENCH_ONEDNN
  const Action their_action = theirs(p, other);
  their_action();
#endif
  for (int round = 0; round < rounds; ++round) {
    our_seconds.push_back(seconds_per_call(our_action, calls));
#ifdef TENDRIL_BENCH_ONEDNN
    their_seconds.push_back(seconds_per_call(their_action, calls));
#endif
  }
  const double our_median = median(our_seconds);
  std::printf("  %6.1f", flops / our_median * 1e-9);
  if (their_seconds.empty()) return 1.0;
  const double ratio = median(their_seconds) / our_median;
  std::printf(" %6.1f  %5.2f", flops / median(their_seconds) * 1e-9, ratio);
  return ratio;
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 1, rounds = 9;
  CLI::App app("Times matrix products of transformer shapes.");
  app.add_option("--threads", threads, "CPU threads")->check(CLI::PositiveNumber);
  app.add_option("--rounds", rounds, "Rounds of each product")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  set_num_threads(threads);
#ifdef TENDRIL_BENCH_ONEDNN
  omp_set_num_threads(threads);
#endif
  std::printf("GFLOP/s on %d threads        f32   oneDNN  ratio    bf16  oneDNN  ratio\n", threads);
  double f32_log = 0.0, bf16_log = 0.0, count = 0.0;
  for (const Product& p : kProducts) {
    std::printf("%5lld x %5lld x %4lld %c%c", static_cast<long long>(p.M),
                static_cast<long long>(p.N), static_cast<long long>(p.K),
                p.a_transposed ? 'T' : 'N', p.b_transposed ? 'T' : 'N');
    f32_log += std::log(compare<float>(p, rounds));
    bf16_log += std::log(compare<bfloat16>(p, rounds));
    std::printf("\n");
    count += 1.0;
  }
  std::printf("geometric mean of the ratios: f32 %.3f, bf16 %.3f\n", std::exp(f32_log / count),
              std::exp(bf16_log / count));
}
