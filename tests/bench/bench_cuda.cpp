// Speed of single operations on a GPU, beside the bandwidth of a large copy measured in the same
// run.
//
//   bench_cuda                                        every operation
//   bench_cuda --only matmul                          those whose name contains "matmul"
//   bench_cuda --json                                 one line for each, for compare_cuda.py
//
// "bytes" are those that must move: every operand read once, every result written once. Backward
// passes are those of the tape, given the gradient of the output. Sizes are a GPT-2 of 124 M
// parameters at 32 x 1024 tokens, in bf16, unless the name says otherwise.
#include <tendril/tendril.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

using namespace tendril;

namespace {

const Device kGpu = Device::cuda();
constexpr int64_t kTokens = 32 * 1024, kChannels = 768, kVocabulary = 50304;

struct Options {
  std::string only;
  bool json = false;
};

// Median of five batches between events, each long enough to drown what starting it costs.
double milliseconds_of(const std::function<void()>& work) {
  const auto batch = [&](int count) {
    cuda::Event start, end;
    start.record();
    for (int i = 0; i < count; ++i) work();
    end.record();
    return end.milliseconds_since(start) / count;
  };
  batch(2);
  const double estimate = std::max(1e-3, batch(2));
  const int count = std::clamp(static_cast<int>(15.0 / estimate), 2, 200);
  std::vector<double> times;
  for (int i = 0; i < 5; ++i) times.push_back(batch(count));
  std::sort(times.begin(), times.end());
  return times[2];
}

class Report {
 public:
  explicit Report(const Options& options) : options_(options) {
    const Tensor from = random({1 << 29}), to = Tensor::empty({1 << 29}, bf16, kGpu);
    copy_bandwidth_ =
        2.0 * static_cast<double>(from.nbytes()) / milliseconds_of([&] { copy_(to, from); }) * 1e-6;
    if (options_.json)
      std::printf("{\"op\": \"copy\", \"gpu\": \"%s\", \"gigabytes_per_second\": %.0f}\n",
                  cuda::properties().name.c_str(), copy_bandwidth_);
    else
      std::printf("%s, copy of 1 GiB: %.0f GB/s\n\n%-34s %10s %9s %8s %6s\n",
                  cuda::properties().name.c_str(), copy_bandwidth_, "operation", "ms", "TFLOP/s",
                  "GB/s", "copy");
  }

  void add(const std::string& name, double flops, double bytes, const std::function<void()>& work) {
    if (name.find(options_.only) == std::string::npos) return;
    const double ms = milliseconds_of(work);
    const double rate = flops / ms * 1e-9, bandwidth = bytes / ms * 1e-6;
    if (options_.json) {
      std::printf(
          "{\"op\": \"%s\", \"milliseconds\": %.5f, \"tflops\": %.2f, "
          "\"gigabytes_per_second\": %.1f}\n",
          name.c_str(), ms, rate, bandwidth);
    } else {
      std::printf("%-34s %10.4f %9.1f %8.0f %5.0f%%\n", name.c_str(), ms, rate, bandwidth,
                  100.0 * bandwidth / copy_bandwidth_);
    }
    std::fflush(stdout);
  }

  // The tape's backward pass of y, again and again.
  void add_backward(const std::string& name, double flops, double bytes, const Tensor& y,
                    const std::vector<Tensor>& inputs) {
    const Tensor g =
        y.numel() == 1 ? full(y.shape(), 1.0, y.dtype(), kGpu) : random(y.shape(), y.dtype());
    add(name, flops, bytes, [&] { grad({y}, inputs, {g}, {.retain_graph = true}); });
  }

  // Random numbers, of which a large tensor repeats the first four million.
  static Tensor random(const Shape& shape, DType dtype = bf16) {
    const int64_t count = shape.numel(), tile = std::min<int64_t>(count, 1 << 22);
    const Tensor numbers =
        to(to(rand({tile}, f32, RandomKey{1, 0, Stream::data}) * 2.0 - 1.0, dtype), kGpu);
    const Tensor flat = Tensor::empty({count}, dtype, kGpu);
    for (int64_t at = 0; at < count; at += tile) {
      const int64_t end = std::min(count, at + tile);
      copy_(slice(flat, 0, at, end), slice(numbers, 0, 0, end - at));
    }
    return reshape(flat, shape);
  }

 private:
  Options options_;
  double copy_bandwidth_ = 0.0;
};

Tensor leaf(const Shape& shape, DType dtype = bf16) {
  return Report::random(shape, dtype).requires_grad_();
}

double bytes_of(std::initializer_list<Tensor> tensors) {
  double total = 0.0;
  for (const Tensor& x : tensors) total += static_cast<double>(x.nbytes());
  return total;
}

// x (M, K) and w (K, N) as in a layer of GPT-2: y = x w, dx = g w^T, dw = x^T g.
void bench_product(Report& report, const std::string& name, int64_t M, int64_t K, int64_t N) {
  const Tensor x = Report::random({M, K}), w = Report::random({K, N}), g = Report::random({M, N});
  const double flops =
      2.0 * static_cast<double>(M) * static_cast<double>(K) * static_cast<double>(N);
  const double bytes = bytes_of({x, w, g});
  report.add("matmul " + name + " NN", flops, bytes, [&] { matmul(x, w); });
  report.add("matmul " + name + " NT", flops, bytes, [&] { matmul(g, transpose(w)); });
  report.add("matmul " + name + " TN", flops, bytes, [&] { matmul(transpose(x), g); });
}

void bench_products(Report& report) {
  bench_product(report, "qkv", kTokens, kChannels, 3 * kChannels);
  bench_product(report, "proj", kTokens, kChannels, kChannels);
  bench_product(report, "up", kTokens, kChannels, 4 * kChannels);
  bench_product(report, "down", kTokens, 4 * kChannels, kChannels);
  bench_product(report, "head", 8192, kChannels, kVocabulary);
  bench_product(report, "square 8192", 8192, 8192, 8192);
}

// Half of the scores count when causal: 2 B H T T D forward, 2.5 times that backward.
void bench_attention(Report& report, int64_t B, int64_t H, int64_t T, int64_t D) {
  const std::string name = "attention T " + std::to_string(T) + " D " + std::to_string(D);
  const Tensor q = leaf({B, H, T, D}), k = leaf({B, H, T, D}), v = leaf({B, H, T, D});
  const auto forward = [&] { return scaled_dot_product_attention(q, k, v, {.causal = true}); };
  const double flops = 2.0 * static_cast<double>(B * H * T) * static_cast<double>(T * D);
  report.add(name + " forward", flops, 4.0 * bytes_of({q}), forward);
  report.add_backward(name + " backward", 2.5 * flops, 8.0 * bytes_of({q}), forward(), {q, k, v});
}

void bench_layers(Report& report) {
  const Tensor x = leaf({kTokens, kChannels}), w = leaf({kChannels}), b = leaf({kChannels});
  const double row_bytes = bytes_of({x});
  report.add("layer_norm forward", 0, 2 * row_bytes, [&] { layer_norm(x, w, b); });
  report.add_backward("layer_norm backward", 0, 3 * row_bytes, layer_norm(x, w, b), {x, w, b});
  const Tensor y = leaf({kTokens, kChannels});
  report.add("add", 0, 3 * row_bytes, [&] { add(x, y); });
  report.add("cast to f32", 0, 3 * row_bytes, [&] { to(x, f32); });
  report.add("transpose heads", 0, 2 * row_bytes, [&] {
    contiguous(transpose(reshape(x, {32, 1024, 12, 64}), 1, 2));
  });
  const Tensor wide = leaf({kTokens, 4 * kChannels});
  report.add("gelu_tanh forward", 0, 8 * row_bytes, [&] { gelu_tanh(wide); });
  report.add_backward("gelu_tanh backward", 0, 12 * row_bytes, gelu_tanh(wide), {wide});
  report.add("sum of rows", 0, 4 * row_bytes, [&] { sum(wide, {0}); });
  report.add("softmax 8192 x 8192", 0, 2 * 2.0 * 8192 * 8192,
             [z = Report::random({8192, 8192})] { softmax(z); });

  const Tensor table = leaf({kVocabulary, kChannels});
  const Tensor tokens = to(randint(0, kVocabulary, {kTokens}, i64, RandomKey{2}), kGpu);
  report.add("embedding forward", 0, 2 * row_bytes, [&] { embedding(tokens, table); });
  report.add_backward("embedding backward", 0, row_bytes + bytes_of({table}),
                      embedding(tokens, table), {table});
}

void bench_losses(Report& report) {
  const int64_t rows = 8192;
  const Tensor targets = to(randint(0, kVocabulary, {rows}, i64, RandomKey{3}), kGpu);
  const Tensor logits = leaf({rows, kVocabulary});
  const double bytes = bytes_of({logits});
  report.add("cross_entropy forward", 0, bytes, [&] { cross_entropy(logits, targets); });
  report.add_backward("cross_entropy backward", 0, 2 * bytes, cross_entropy(logits, targets),
                      {logits});
  const Tensor x = leaf({rows, kChannels}), weight = leaf({kVocabulary, kChannels});
  const double flops =
      6.0 * static_cast<double>(rows * kChannels) * static_cast<double>(kVocabulary);
  report.add("linear_cross_entropy both ways", flops, 2 * bytes_of({x, weight}), [&] {
    const Tensor loss = linear_cross_entropy(x, weight, targets);
    grad({loss}, {x, weight});
  });
}

void bench_optimizer(Report& report) {
  std::vector<Tensor> parameters = {leaf({kVocabulary, kChannels}), leaf({1024, kChannels})};
  for (int layer = 0; layer < 12; ++layer)
    for (const Shape& shape :
         {Shape{768, 2304}, Shape{2304}, Shape{768, 768}, Shape{768}, Shape{768, 3072}, Shape{3072},
          Shape{3072, 768}, Shape{768}, Shape{768}, Shape{768}, Shape{768}, Shape{768}})
      parameters.push_back(leaf(shape));
  double count = 0.0;
  for (Tensor& parameter : parameters) {
    parameter.set_grad(Report::random(parameter.shape()));
    count += static_cast<double>(parameter.numel());
  }
  optim::AdamW optimizer(parameters, {.lr = 1e-6});
  // gradient in, parameter out, and the f32 master and two moments both ways
  report.add("AdamW step of 124 M", 0, count * (2 + 2 + 3 * 8), [&] { optimizer.step(); });
  report.add("clip_grad_norm of 124 M", 0, count * 2,
             [&] { optim::clip_grad_norm_async(parameters, 1e9); });
}

void run(const Options& options) {
  Report report(options);
  bench_products(report);
  bench_attention(report, 32, 12, 1024, 64);
  bench_attention(report, 4, 16, 4096, 128);
  bench_layers(report);
  bench_losses(report);
  bench_optimizer(report);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Measures single operations on a GPU.", "bench_cuda");
  app.add_option("--only", options.only, "Operations whose name contains this");
  app.add_flag("--json", options.json, "One JSON object on a line for each operation");
  CLI11_PARSE(app, argc, argv);
  if (!cuda::is_available()) {
    std::printf("there is no GPU to measure: %s\n",
                cuda::is_built() ? "none can be used here" : "built without CUDA");
    return 0;
  }
  try {
    run(options);
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
