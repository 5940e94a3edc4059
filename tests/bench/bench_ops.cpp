// Speed of single ops, forward and with their gradients. Sizes are those of a GPT-2 small block
// unless the name says otherwise. Counters: flops are multiplications plus additions, bytes are
// what must at least be read and written.
//
//   bench_ops --benchmark_filter=matmul
#include <benchmark/benchmark.h>

#include <tendril/tendril.h>

namespace {

using namespace tendril;
using benchmark::Counter;

void count_flops(benchmark::State& state, double flops) {
  state.counters["flops"] = Counter(flops, Counter::kIsIterationInvariantRate);
}
void count_bytes(benchmark::State& state, double bytes) {
  state.counters["bytes"] = Counter(bytes, Counter::kIsIterationInvariantRate, Counter::kIs1024);
}

// (n, n) x (n, n)
void matmul_square(benchmark::State& state) {
  const int64_t n = state.range(0);
  const Tensor a = randn({n, n}), b = randn({n, n});
  for (auto _ : state) benchmark::DoNotOptimize(matmul(a, b));
  count_flops(state, 2.0 * n * n * n);
}
BENCHMARK(matmul_square)->Arg(64)->Arg(128)->Arg(256)->Arg(512)->Arg(1024)->UseRealTime();

// A transposed operand is read in place.
void matmul_transposed(benchmark::State& state) {
  const int64_t n = state.range(0);
  const Tensor a = randn({n, n}), b = transpose(randn({n, n}));
  for (auto _ : state) benchmark::DoNotOptimize(matmul(a, b));
  count_flops(state, 2.0 * n * n * n);
}
BENCHMARK(matmul_transposed)->Arg(512)->UseRealTime();

// (B T, C) to (B T, 4 C), the largest product of a block.
void linear_up(benchmark::State& state) {
  const int64_t rows = state.range(0), channels = state.range(1);
  const Tensor x = randn({rows, channels}), weight = randn({4 * channels, channels}),
               bias = randn({4 * channels});
  for (auto _ : state) benchmark::DoNotOptimize(linear(x, weight, bias));
  count_flops(state, 8.0 * rows * channels * channels);
}
BENCHMARK(linear_up)->Args({768, 128})->Args({1024, 768})->UseRealTime();

// Value, and gradients of x, weight and bias.
void linear_up_backward(benchmark::State& state) {
  const int64_t rows = state.range(0), channels = state.range(1);
  Tensor x = randn({rows, channels}), weight = randn({4 * channels, channels}),
         bias = randn({4 * channels});
  for (Tensor* t : {&x, &weight, &bias}) t->requires_grad_();
  const Tensor g = randn({rows, 4 * channels});
  for (auto _ : state)
    benchmark::DoNotOptimize(grad({linear(x, weight, bias)}, {x, weight, bias}, {g}));
  count_flops(state, 24.0 * rows * channels * channels);
}
BENCHMARK(linear_up_backward)->Args({768, 128})->Args({1024, 768})->UseRealTime();

// A function of x (rows, channels): value, or value and gradient; `passes` over x's memory.
template <class Function>
void over_rows(benchmark::State& state, Function function, bool with_gradient, double passes) {
  const int64_t rows = state.range(0), channels = state.range(1);
  Tensor x = randn({rows, channels});
  const Tensor g = randn({rows, channels});
  if (with_gradient) x.requires_grad_();
  for (auto _ : state) {
    const Tensor y = function(x);
    if (with_gradient) benchmark::DoNotOptimize(grad({y}, {x}, {g}));
    benchmark::DoNotOptimize(y);
  }
  count_bytes(state, passes * 4.0 * rows * channels);
}

#define OVER_ROWS(name, expression)                                     \
  void name(benchmark::State& state) {                                  \
    over_rows(                                                          \
        state, [](const Tensor& x) { return expression; }, false, 2);   \
  }                                                                     \
  BENCHMARK(name)->Args({768, 512})->Args({1024, 3072})->UseRealTime(); \
  void name##_backward(benchmark::State& state) {                       \
    over_rows(                                                          \
        state, [](const Tensor& x) { return expression; }, true, 5);    \
  }                                                                     \
  BENCHMARK(name##_backward)->Args({768, 512})->Args({1024, 3072})->UseRealTime();

OVER_ROWS(add_itself, x + x)
OVER_ROWS(exponential, exp(x))
OVER_ROWS(gelu_erf, gelu(x))
OVER_ROWS(gelu_by_tanh, gelu_tanh(x))
OVER_ROWS(softmax_last_axis, softmax(x))
OVER_ROWS(layer_norm_plain, layer_norm(x, Tensor(), Tensor()))
OVER_ROWS(dropout_tenth, dropout(x, 0.1))
OVER_ROWS(copy_transposed, contiguous(transpose(x)))

// Causal self-attention, 12 heads of 64 channels.
void attention(benchmark::State& state, bool with_gradient) {
  const int64_t B = state.range(0), H = 12, T = state.range(1), D = 64;
  Tensor q = randn({B, H, T, D}), k = randn({B, H, T, D}), v = randn({B, H, T, D});
  const Tensor g = randn({B, H, T, D});
  if (with_gradient)
    for (Tensor* t : {&q, &k, &v}) t->requires_grad_();
  for (auto _ : state) {
    const Tensor y = scaled_dot_product_attention(q, k, v, {.causal = true});
    if (with_gradient) benchmark::DoNotOptimize(grad({y}, {q, k, v}, {g}));
    benchmark::DoNotOptimize(y);
  }
  // Two products forward, five backward, each 2 T T D and half of it under the causal mask.
  count_flops(state, (with_gradient ? 7.0 : 2.0) * B * H * T * T * D);
}
BENCHMARK_CAPTURE(attention, causal, false)->Args({4, 256})->Args({1, 1024})->UseRealTime();
BENCHMARK_CAPTURE(attention, causal_backward, true)->Args({4, 256})->Args({1, 1024})->UseRealTime();

// Loss over a vocabulary of 50257, with its gradient.
void cross_entropy_backward(benchmark::State& state) {
  const int64_t rows = state.range(0), vocabulary = 50257;
  Tensor logits = randn({rows, vocabulary});
  logits.requires_grad_();
  const Tensor target = randint(0, vocabulary, {rows});
  for (auto _ : state) benchmark::DoNotOptimize(grad({cross_entropy(logits, target)}, {logits}));
  count_bytes(state, 3.0 * 4.0 * rows * vocabulary);
}
BENCHMARK(cross_entropy_backward)->Arg(256)->UseRealTime();

// A language model's head with its loss, (rows, C) and (V, C) to value and both gradients: from the
// logits, and fused. peak: bytes of memory at the highest, beyond the operands.
void head_loss(benchmark::State& state, bool fused) {
  const int64_t rows = state.range(0), channels = state.range(1), vocabulary = state.range(2);
  Tensor x = randn({rows, channels}), weight = randn({vocabulary, channels}) * 0.02;
  x.requires_grad_();
  weight = weight.detach().requires_grad_();
  const Tensor target = randint(0, vocabulary, {rows});
  const int64_t before = memory_stats().current_bytes;
  reset_peak_memory_stats();
  for (auto _ : state) {
    const Tensor loss =
        fused ? linear_cross_entropy(x, weight, target) : cross_entropy(linear(x, weight), target);
    benchmark::DoNotOptimize(grad({loss}, {x, weight}));
  }
  state.counters["peak"] = Counter(static_cast<double>(memory_stats().peak_bytes - before),
                                   Counter::kDefaults, Counter::kIs1024);
  count_flops(state, 6.0 * rows * channels * vocabulary);
}
BENCHMARK_CAPTURE(head_loss, from_logits, false)
    ->Args({768, 128, 65})
    ->Args({3072, 384, 65})
    ->Args({1024, 768, 50257})
    ->UseRealTime();
BENCHMARK_CAPTURE(head_loss, fused, true)
    ->Args({768, 128, 65})
    ->Args({3072, 384, 65})
    ->Args({1024, 768, 50257})
    ->UseRealTime();

void embedding_backward(benchmark::State& state) {
  const int64_t rows = state.range(0), channels = 768;
  Tensor weight = randn({50257, channels});
  weight.requires_grad_();
  const Tensor indices = randint(0, 50257, {rows}), g = randn({rows, channels});
  for (auto _ : state) benchmark::DoNotOptimize(grad({embedding(indices, weight)}, {weight}, {g}));
}
BENCHMARK(embedding_backward)->Arg(1024)->UseRealTime();

}  // namespace
