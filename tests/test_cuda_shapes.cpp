// Shapes of real models and awkward ones on a GPU, against the CPU: what the small cases of the op
// table cannot reach - several blocks, tiles that do not divide, vectors that do not fit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <tendril/tendril.h>

#include "cuda_tools.h"
#include "op_harness.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

const Device kGpu = gpu_under_test();

// Uniform in [low, high), the same numbers for the same seed.
Tensor uniform(const Shape& shape, uint64_t seed, double low = -1.0, double high = 1.0) {
  return rand(shape, f32, RandomKey{seed, 0, Stream::data}) * (high - low) + low;
}

struct Tolerance {
  double single = 1e-5;  // f32, relative to the largest number
  double half = 4;       // bf16, in units of the last place of the largest number
};

using Run = std::function<Tensor(const Inputs&)>;

// Values and gradients of run(inputs) on both devices, in f32 and bf16. Integer inputs are passed
// as they are.
void compare(const std::string& label, const Inputs& inputs, const Run& run,
             const Tolerance& tolerance = {}) {
  OpCase one{Op::add, label, {}, run};
  for (const DType dtype : {f32, bf16})
    check_on_gpu(label + " " + name(dtype), [&] {
      const auto placed = [&](Device device) {
        Inputs list;
        for (const Tensor& input : inputs) {
          const bool floating = is_floating(input.dtype());
          Tensor x =
              to(floating ? to(input, dtype) : input, device).detach();  // a handle of its own
          if (floating) x.requires_grad_();
          list.push_back(x);
        }
        return list;
      };
      const Outcome expected = run_both_ways(one, placed(Device::cpu()));
      const Outcome got = run_both_ways(one, placed(kGpu));
      const double allowed = dtype == f32 ? tolerance.single : tolerance.half * 0x1p-7;
      const double error = difference(got.output, expected.output);
      CHECK_MESSAGE(error <= allowed, label, " ", std::string(name(dtype)), ": output is off by ",
                    error);
      for (size_t i = 0; i < expected.grads.size(); ++i) {
        const double gradient_error = difference(got.grads[i], expected.grads[i]);
        CHECK_MESSAGE(gradient_error <= allowed, label, " ", std::string(name(dtype)),
                      ": gradient ", i, " is off by ", gradient_error);
      }
    });
}

// The same bits on both devices: operations that only move numbers.
void compare_bits(const std::string& label, const Tensor& x,
                  const std::function<Tensor(const Tensor&)>& run) {
  check_on_gpu(label, [&] { CHECK_MESSAGE(same_bits(run(to(x, kGpu)), run(x)), label); });
}

Tensor tokens(const Shape& shape, int64_t vocabulary, uint64_t seed) {
  return randint(0, vocabulary, shape, i64, RandomKey{seed, 0, Stream::data});
}

void compare_attention(const std::string& label, const Shape& q, const Shape& k,
                       const AttentionOptions& options) {
  compare("attention " + label, {uniform(q, 1), uniform(k, 2), uniform(k, 3)},
          [options](const Inputs& in) {
            manual_seed(5);  // the same dropout mask on both devices
            return scaled_dot_product_attention(in[0], in[1], in[2], options);
          });
}

}  // namespace

TEST_SUITE("cuda_shapes") {
  TEST_CASE("norms") {
    if (skipped_without_gpu()) return;
    for (const Shape& shape :
         {Shape{1000, 768}, Shape{37, 1030}, Shape{3, 12289}, Shape{513, 33}}) {
      const Shape channels = {shape.back()};
      const std::string size = detail::concat(shape);
      compare("layer_norm " + size, {uniform(shape, 1), uniform(channels, 2), uniform(channels, 3)},
              [](const Inputs& in) { return layer_norm(in[0], in[1], in[2]); });
      compare("add_layer_norm " + size,
              {uniform(shape, 1), uniform(shape, 4), uniform(channels, 2), uniform(channels, 3)},
              [](const Inputs& in) {
                const auto [sum, y] = add_layer_norm(in[0], in[1], in[2], in[3]);
                return sum * y;
              });
      compare("rms_norm " + size, {uniform(shape, 1), uniform(channels, 2)},
              [](const Inputs& in) { return rms_norm(in[0], in[1]); });
    }
    compare("add_layer_norm of a 16-bit branch",
            {uniform({130, 384}, 1), uniform({130, 384}, 2), uniform({384}, 3)},
            [](const Inputs& in) {
              const auto [sum, y] = add_layer_norm(in[0], to(in[1], bf16), in[2], {});
              return sum * y;
            },
            {.single = 0x1p-7});
  }

  TEST_CASE("softmax and class losses over a vocabulary") {
    if (skipped_without_gpu()) return;
    const Tensor logits = uniform({333, 50257}, 1, -4.0, 4.0);
    Tensor target = tokens({333}, 50257, 2);
    fill_(slice(target, 0, 5, 9), -100.0);
    compare("softmax", {logits}, [](const Inputs& in) { return softmax(in[0]); });
    compare("log_softmax", {logits}, [](const Inputs& in) { return log_softmax(in[0]); });
    for (const int64_t n : {768, 5000, 12288, 20000}) {  // a warp, a block, more pieces, any length
      const Inputs row = {uniform({11, n}, 7, -20.0, 20.0)};
      compare("softmax of " + std::to_string(n), row,
              [](const Inputs& in) { return softmax(in[0]); });
      compare("log_softmax of " + std::to_string(n), row,
              [](const Inputs& in) { return log_softmax(in[0]); });
    }
    compare("softmax of the first axis", {uniform({257, 3, 65}, 3)},
            [](const Inputs& in) { return softmax(in[0], 0); });
    compare("cross_entropy", {logits, target},
            [](const Inputs& in) { return cross_entropy(in[0], in[1], {.label_smoothing = 0.1}); });
    // The maximum is found late, far from 0, and some classes are impossible.
    Tensor rising = uniform({7, 50304}, 8) + to(arange(50304), f32) * 2e-3 + 100.0;
    fill_(slice(rising, 1, 50200, 50240), -HUGE_VAL);
    fill_(slice(rising, 1, 0, 17), -HUGE_VAL);
    compare("cross_entropy of rising logits", {rising, tokens({7}, 50000, 9) + 100},
            [](const Inputs& in) { return cross_entropy(in[0], in[1]); });
    compare(
        "linear_cross_entropy",
        {uniform({2, 150, 96}, 4), uniform({5003, 96}, 5, -0.1, 0.1), tokens({2, 150}, 5003, 6)},
        [](const Inputs& in) { return linear_cross_entropy(in[0], in[1], in[2]); });
  }

  TEST_CASE("reductions") {
    if (skipped_without_gpu()) return;
    const Tensor x = uniform({4096, 3072}, 1, 0.0, 1.0);
    const auto over = [](const Shape& axes) {
      return [axes](const Inputs& in) { return sum(in[0], axes); };
    };
    compare("sum of rows", {x}, over({1}));
    compare("sum of columns", {x}, over({0}));
    compare("sum of everything", {x}, over({}));
    compare("sum of odd middle axes", {uniform({7, 129, 5, 33}, 2, 0.0, 1.0)}, over({1, 2}));
    compare("mean", {x}, [](const Inputs& in) { return mean(in[0], {0}); });
    compare("logsumexp", {x}, [](const Inputs& in) { return logsumexp(in[0], {1}); });
    compare("var", {uniform({129, 4097}, 3)}, [](const Inputs& in) { return var(in[0], {1}); });
    compare("norm", {x}, [](const Inputs& in) { return norm(in[0]); });
    compare("max", {uniform({33, 5000}, 4)}, [](const Inputs& in) { return max(in[0], {0}); },
            {.single = 0.0, .half = 0.0});
    compare("cumsum", {uniform({5, 4099}, 5, 0.0, 1.0)},
            [](const Inputs& in) { return cumsum(in[0], 1); });
  }

  TEST_CASE("matrix products") {
    if (skipped_without_gpu()) return;
    const auto product = [](const Inputs& in) { return matmul(in[0], in[1]); };
    compare("NN 1 x 7 x 5", {uniform({1, 7}, 1), uniform({7, 5}, 2)}, product);
    compare("NN 129 x 257 x 65", {uniform({129, 257}, 1), uniform({257, 65}, 2)}, product);
    compare("NN 512 x 768 x 2304", {uniform({512, 768}, 1), uniform({768, 2304}, 2)}, product);
    compare("NT 130 x 66 x 258", {uniform({130, 66}, 1), uniform({258, 66}, 2)},
            [](const Inputs& in) { return matmul(in[0], transpose(in[1])); });
    compare("TN 100 x 333 x 50", {uniform({333, 100}, 1), uniform({333, 50}, 2)},
            [](const Inputs& in) { return matmul(transpose(in[0]), in[1]); });
    compare("batched", {uniform({6, 65, 33}, 1), uniform({6, 33, 70}, 2)}, product);
    compare("batch broadcast", {uniform({3, 1, 40, 24}, 1), uniform({5, 24, 56}, 2)}, product);
    compare("rows folded", {uniform({4, 33, 96}, 1), uniform({96, 100}, 2)}, product);
    compare("heads in place", {uniform({2, 50, 4, 16}, 1), uniform({2, 50, 4, 16}, 2)},
            [](const Inputs& in) {
              return matmul(transpose(in[0], 1, 2), transpose(transpose(in[1], 1, 2)));
            });
    compare("linear", {uniform({3, 100, 384}, 1), uniform({1000, 384}, 2), uniform({1000}, 3)},
            [](const Inputs& in) { return linear(in[0], in[1], in[2]); });
    compare("feed_forward",
            {uniform({300, 192}, 1), uniform({768, 192}, 2, -0.1, 0.1), uniform({768}, 3),
             uniform({192, 768}, 4, -0.1, 0.1), uniform({192}, 5)},
            [](const Inputs& in) {
              return feed_forward(in[0], {in[1], in[2], in[3], in[4]}, Op::gelu_tanh);
            });
  }

  TEST_CASE("attention") {
    if (skipped_without_gpu()) return;
    for (const int64_t channels : {64, 128})
      for (const int64_t length : {257, 1024}) {
        if (length > 257 && gpu_is_emulated()) continue;
        const std::string size = "D " + std::to_string(channels) + " T " + std::to_string(length);
        const Shape q = {2, 4, length, channels};
        compare_attention(size, q, q, {});
        compare_attention(size + " causal", q, q, {.causal = true});
        compare_attention(size + " window", q, q, {.causal = true, .window = 100});
        compare_attention(size + " grouped", q, {2, 2, length, channels}, {.causal = true});
        compare_attention(size + " dropout", q, q, {.causal = true, .dropout = 0.2});
      }
    compare_attention("D 64, one query", {3, 4, 1, 64}, {3, 4, 300, 64}, {.causal = true});
    compare_attention("D 80", {1, 3, 130, 80}, {1, 3, 130, 80}, {.causal = true});
    compare("attention of heads in place", {uniform({2, 200, 3 * 256}, 1)}, [](const Inputs& in) {
      const std::vector<Tensor> parts = split(in[0], 256, -1);
      const auto heads = [](const Tensor& x) {
        return transpose(reshape(x, {2, 200, 4, 64}), 1, 2);
      };
      return scaled_dot_product_attention(heads(parts[0]), heads(parts[1]), heads(parts[2]),
                                          {.causal = true});
    });
  }

  TEST_CASE("pointwise over vectors, tails and broadcasts") {
    if (skipped_without_gpu()) return;
    for (const int64_t size : {1, 31, 4095, 1048579}) {
      const Tensor x = uniform({size}, 1), y = uniform({size}, 2);
      const std::string label = std::to_string(size);
      compare("gelu " + label, {x}, [](const Inputs& in) { return gelu(in[0]); });
      compare("multiply " + label, {x, y}, [](const Inputs& in) { return in[0] * in[1]; });
      manual_seed(3);
      compare("dropout " + label, {x}, [](const Inputs& in) {
        manual_seed(9);
        return dropout(in[0], 0.3);
      });
    }
    compare("rows plus a row", {uniform({513, 770}, 1), uniform({770}, 2)},
            [](const Inputs& in) { return in[0] + in[1]; });
    compare("rows times a column", {uniform({513, 770}, 1), uniform({513, 1}, 2)},
            [](const Inputs& in) { return in[0] * in[1]; });
    compare("an unaligned slice", {uniform({300, 1001}, 1)},
            [](const Inputs& in) { return silu(slice(in[0], 1, 1)); });
  }

  TEST_CASE("indexing and order") {
    if (skipped_without_gpu()) return;
    const Tensor often = tokens({8, 513}, 7, 1), wide = tokens({8, 513}, 5000, 2);
    for (const Tensor& indices : {often, wide})
      compare("embedding", {indices, uniform({5000, 129}, 3)},
              [](const Inputs& in) { return embedding(in[0], in[1]); });
    compare("index_select", {uniform({4, 600, 70}, 1), tokens({1000}, 600, 2)},
            [](const Inputs& in) { return index_select(in[0], 1, in[1]); });
    compare("gather", {uniform({60, 70}, 1), tokens({60, 500}, 70, 2)},
            [](const Inputs& in) { return gather(in[0], 1, in[1]); });
    compare("scatter_add", {uniform({60, 70}, 1), tokens({60, 500}, 70, 2), uniform({60, 500}, 3)},
            [](const Inputs& in) { return scatter_add(in[0], 1, in[1], in[2]); });
    compare("rotary_embedding", {uniform({2, 3, 1000, 64}, 1)},
            [](const Inputs& in) { return rotary_embedding(in[0], 10000.0, 77); });
    for (const Shape& shape : {Shape{100003}, Shape{200, 1000}, Shape{3000, 17}})
      for (const bool descending : {false, true}) {
        const Tensor x = to(uniform(shape, 4), bf16);  // with ties
        compare_bits("argsort " + detail::concat(shape), x,
                     [descending](const Tensor& t) { return argsort(t, -1, descending); });
      }
    compare_bits("sort of another axis", uniform({70, 80, 3}, 5),
                 [](const Tensor& t) { return sort(t, 1).values; });
    const Tensor weights = uniform({3, 50257}, 7, 0.0, 1.0);
    for (const bool replacement : {true, false})
      for (const int64_t count : {1, 40})
        compare_bits("multinomial", weights, [=](const Tensor& t) {
          manual_seed(11);
          return multinomial(t, count, replacement);
        });
    compare_bits("topk", uniform({33, 50257}, 6),
                 [](const Tensor& t) { return topk(t, 40).indices; });
  }

  TEST_CASE("moving numbers") {
    if (skipped_without_gpu()) return;
    const Tensor x = uniform({3, 130, 37, 65}, 1, -300.0, 300.0);
    for (const Shape& axes :
         {Shape{0, 2, 1, 3}, Shape{3, 2, 1, 0}, Shape{0, 1, 3, 2}, Shape{1, 0, 2, 3}})
      for (const DType dtype : {f64, f32, bf16, u8})
        compare_bits(detail::concat("permute ", axes, " ", dtype), to(x, dtype),
                     [axes](const Tensor& t) { return contiguous(permute(t, axes)); });
    compare_bits("transpose", uniform({1025, 771}, 2),
                 [](const Tensor& t) { return contiguous(transpose(t)); });
    for (const DType from : {f64, f32, bf16, f16, i64, i32, u8, bool_})
      for (const DType into : {f64, f32, bf16, f16, i64, i32, u8, bool_})
        compare_bits(detail::concat("cast ", from, " to ", into), to(x, from),
                     [into](const Tensor& t) { return to(t, into); });
    compare_bits("expand", uniform({1, 77, 1, 5}, 3), [](const Tensor& t) {
      return contiguous(expand(t, {40, 77, 9, 5}));
    });
    compare_bits("cat", uniform({33, 50}, 4), [](const Tensor& t) { return cat({t, t, t}, 1); });
    compare_bits("flip, roll, pad, repeat", uniform({33, 50}, 5), [](const Tensor& t) {
      return repeat(pad(roll(flip(t, {1}), 7, 0), {1, 2, 3, 0}, 0.5), {2, 1, 3});
    });
    compare_bits("tril and triu", uniform({3, 70, 90}, 6), [](const Tensor& t) {
      return cat({tril(t, 3), triu(t, -2)});
    });
  }
}

namespace {

// Parameters of many sizes with gradients, the same on both devices.
std::vector<Tensor> many_parameters(DType dtype, Device device) {
  std::vector<Tensor> list;
  for (const int64_t size : {1, 3, 768, 2304, 4097, 65536, 768 * 768 + 5}) {
    Tensor x = to(to(uniform({size}, static_cast<uint64_t>(size)), dtype), device);
    list.push_back(x.requires_grad_());
  }
  return list;
}

void set_gradients(const std::vector<Tensor>& parameters, uint64_t seed) {
  for (Tensor parameter : parameters)
    parameter.set_grad(
        to(to(uniform(parameter.shape(), ++seed), parameter.dtype()), parameter.device()));
}

}  // namespace

TEST_SUITE("cuda_shapes") {
  // Just large enough for several blocks and ragged ends: compute-sanitizer is a hundred times
  // slower.
  TEST_CASE("every fast path in small, for the sanitizers") {
    if (skipped_without_gpu()) return;
    compare("layer_norm", {uniform({70, 768}, 1), uniform({768}, 2), uniform({768}, 3)},
            [](const Inputs& in) { return layer_norm(in[0], in[1], in[2]); });
    compare("add_layer_norm", {uniform({70, 768}, 1), uniform({70, 768}, 2), uniform({768}, 3)},
            [](const Inputs& in) {
              const auto [sum, y] = add_layer_norm(in[0], in[1], in[2], {});
              return sum * y;
            });
    compare("rms_norm", {uniform({33, 520}, 1), uniform({520}, 2)},
            [](const Inputs& in) { return rms_norm(in[0], in[1]); });
    compare("softmax", {uniform({9, 5003}, 1)}, [](const Inputs& in) { return softmax(in[0]); });
    compare("cross_entropy", {uniform({9, 5003}, 1), tokens({9}, 5003, 2)},
            [](const Inputs& in) { return cross_entropy(in[0], in[1]); });
    compare("linear_cross_entropy",
            {uniform({70, 64}, 1), uniform({301, 64}, 2), tokens({70}, 301, 3)},
            [](const Inputs& in) { return linear_cross_entropy(in[0], in[1], in[2]); });
    for (const int64_t channels : {64, 128})
      compare_attention("D " + std::to_string(channels), {1, 2, 130, channels},
                        {1, 1, 130, channels}, {.causal = true, .dropout = 0.1});
    compare("products", {uniform({65, 72}, 1), uniform({72, 130}, 2)},
            [](const Inputs& in) { return matmul(in[0], in[1]); });
    compare("feed_forward",
            {uniform({33, 64}, 1), uniform({256, 64}, 2), uniform({256}, 3), uniform({64, 256}, 4),
             uniform({64}, 5)},
            [](const Inputs& in) {
              return feed_forward(in[0], {in[1], in[2], in[3], in[4]}, Op::gelu_tanh);
            },
            {.single = 2e-5});
    compare("embedding", {tokens({300}, 50, 1), uniform({50, 72}, 2)},
            [](const Inputs& in) { return embedding(in[0], in[1]); });
    compare("reductions", {uniform({130, 259}, 1, 0.0, 1.0)},
            [](const Inputs& in) { return sum(in[0], {0}) + sum(in[0], {1}, true) + mean(in[0]); });
    compare("pointwise", {uniform({33, 257}, 1), uniform({257}, 2)},
            [](const Inputs& in) { return gelu(in[0]) * in[1] + silu(in[0]); });
    compare_bits("transposes", uniform({3, 33, 65}, 1), [](const Tensor& t) {
      return contiguous(permute(t, {2, 0, 1}));
    });
    compare_bits("sort", uniform({5, 700}, 1), [](const Tensor& t) { return argsort(t); });
    check_on_gpu("AdamW", [&] {
      const auto parameters = many_parameters(bf16, kGpu);
      optim::AdamW optimizer(parameters, {.lr = 1e-2});
      set_gradients(parameters, 1);
      optim::clip_grad_norm(parameters, 1.0);
      optimizer.step();
      CHECK(std::isfinite(sum(parameters.back().detach()).item<float>()));
    });
  }

  TEST_CASE("optimizers and clipping over many tensors") {
    if (skipped_without_gpu()) return;
    for (const DType dtype : {f32, bf16})
      check_on_gpu(std::string("AdamW ") + name(dtype), [&] {
        const auto here = many_parameters(dtype, Device::cpu()),
                   there = many_parameters(dtype, kGpu);
        optim::AdamW one(here, {.lr = 1e-2}), other(there, {.lr = 1e-2});
        for (uint64_t step = 0; step < 4; ++step) {
          set_gradients(here, 100 * step);
          set_gradients(there, 100 * step);
          const double norm = optim::clip_grad_norm(here, 1.0);
          const double other_norm = step % 2 == 0
                                        ? optim::clip_grad_norm(there, 1.0)
                                        : optim::clip_grad_norm_async(there, 1.0).item<double>();
          CHECK(std::fabs(other_norm - norm) <= 1e-6 * norm);
          one.step();
          other.step();
        }
        for (size_t i = 0; i < here.size(); ++i)
          CHECK(difference(there[i], here[i]) <= (dtype == f32 ? 1e-5 : 0x1p-7));
      });
    check_on_gpu("SGD", [&] {
      const auto here = many_parameters(f32, Device::cpu()), there = many_parameters(f32, kGpu);
      optim::Sgd one(here, {.lr = 0.1, .momentum = 0.9}),
          other(there, {.lr = 0.1, .momentum = 0.9});
      for (uint64_t step = 0; step < 4; ++step) {
        set_gradients(here, 100 * step);
        set_gradients(there, 100 * step);
        one.step();
        other.step();
      }
      for (size_t i = 0; i < here.size(); ++i) CHECK(difference(there[i], here[i]) <= 1e-5);
    });
  }
}
