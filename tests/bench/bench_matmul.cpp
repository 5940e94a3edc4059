// Matrix products of transformer shapes, side by side with oneDNN and OpenBLAS where the build
// found them.
//
//   bench_matmul [--threads N] [--rounds R]
//   TENDRIL_ISA=avx2 OPENBLAS_CORETYPE=Haswell bench_matmul      our AVX2 kernels beside OpenBLAS's
//
// For each shape and form all run in turn, round after round; the table shows the median of each
// and the ratio of the medians (above 1: ours is faster), the last lines their geometric means.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <type_traits>
#include <vector>

#include <tendril/core/cpu/gemm.h>
#include <tendril/core/cpu/isa.h>
#include <tendril/core/threads.h>
#include <CLI/CLI.hpp>

#ifdef TENDRIL_BENCH_ONEDNN
#include <omp.h>
#include <dnnl.hpp>
#endif
#ifdef TENDRIL_BENCH_OPENBLAS
#include <cblas.h>
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

// An empty action: the peer has no such product on this processor.
template <class T>
Action onednn([[maybe_unused]] const Product& p, [[maybe_unused]] Operands<T>& x) {
#ifdef TENDRIL_BENCH_ONEDNN
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
  try {
    const dnnl::matmul product(dnnl::matmul::primitive_desc(description, engine));
    return [=]() mutable {
      product.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
      stream.wait();
    };
  } catch (const dnnl::error&) {  // bf16 before AVX-512
  }
#endif
  return {};
}

template <class T>
Action openblas([[maybe_unused]] const Product& p, [[maybe_unused]] Operands<T>& x) {
#ifdef TENDRIL_BENCH_OPENBLAS
  if constexpr (std::is_same_v<T, float>)
    return [p, &x] {
      const auto form = [](bool transposed) { return transposed ? CblasTrans : CblasNoTrans; };
      const auto size = [](int64_t value) { return static_cast<blasint>(value); };
      cblas_sgemm(CblasRowMajor, form(p.a_transposed), form(p.b_transposed), size(p.M), size(p.N),
                  size(p.K), 1.0f, x.a.data(), size(p.a_transposed ? p.M : p.K), x.b.data(),
                  size(p.b_transposed ? p.K : p.N), 0.0f, x.c.data(), size(p.N));
    };
#endif
  return {};
}

// The ratios of one column of the table.
struct Ratios {
  double logarithms = 0.0, smallest = 0.0;
  int count = 0;

  void add(double ratio) {
    smallest = count == 0 ? ratio : std::min(smallest, ratio);
    logarithms += std::log(ratio);
    ++count;
  }
  void print(const char* what) const {
    if (count > 0)
      std::printf("%s: geometric mean %.3f, smallest %.2f\n", what, std::exp(logarithms / count),
                  smallest);
  }
};

/// Runs one product in all ways, in turn, and prints its columns: ours, then rate and ratio of each
/// peer.
template <class T>
void compare(const Product& p, int rounds, std::initializer_list<Ratios*> ratios,
             std::initializer_list<Action (*)(const Product&, Operands<T>&)> peers) {
  Operands<T> mine(p), other(p);
  const double flops = 2.0 * static_cast<double>(p.M * p.N * p.K);
  const int calls = std::max(1, static_cast<int>(1e8 / flops));
  std::vector<Action> actions = {ours(p, mine)};
  for (const auto peer : peers) actions.push_back(peer(p, other));
  std::vector<std::vector<double>> seconds(actions.size());
  for (int round = -1; round < rounds; ++round)  // the first only warms up
    for (size_t i = 0; i < actions.size(); ++i) {
      if (!actions[i]) continue;
      const double time = seconds_per_call(actions[i], calls);
      if (round >= 0) seconds[i].push_back(time);
    }
  const double our_median = median(seconds[0]);
  std::printf("  %6.1f", flops / our_median * 1e-9);
  for (size_t i = 1; i < actions.size(); ++i) {
    if (!actions[i]) {
      std::printf("      -     -");
      continue;
    }
    const double ratio = median(seconds[i]) / our_median;
    std::printf(" %6.1f %5.2f", flops / median(seconds[i]) * 1e-9, ratio);
    ratios.begin()[i - 1]->add(ratio);
  }
}

void set_threads(int threads) {
  set_num_threads(threads);
#ifdef TENDRIL_BENCH_ONEDNN
  omp_set_num_threads(threads);
#endif
#ifdef TENDRIL_BENCH_OPENBLAS
  openblas_set_num_threads(threads);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 1, rounds = 9;
  CLI::App app("Times matrix products of transformer shapes.");
  app.add_option("--threads", threads, "CPU threads")->check(CLI::PositiveNumber);
  app.add_option("--rounds", rounds, "Rounds of each product")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  set_threads(threads);
  std::printf(
      "GFLOP/s, %d threads, %-7s     f32  oneDNN ratio  OpenBL ratio    bf16  oneDNN ratio\n",
      threads, tendril::cpu::isa_name());
  Ratios f32_onednn, f32_openblas, bf16_onednn;
  for (const Product& p : kProducts) {
    std::printf("%5lld x %5lld x %4lld %c%c", static_cast<long long>(p.M),
                static_cast<long long>(p.N), static_cast<long long>(p.K),
                p.a_transposed ? 'T' : 'N', p.b_transposed ? 'T' : 'N');
    compare<float>(p, rounds, {&f32_onednn, &f32_openblas}, {onednn<float>, openblas<float>});
    compare<tendril::bfloat16>(p, rounds, {&bf16_onednn}, {onednn<tendril::bfloat16>});
    std::printf("\n");
  }
  f32_onednn.print("f32 beside oneDNN");
  f32_openblas.print("f32 beside OpenBLAS");
  bf16_onednn.print("bf16 beside oneDNN");
}
