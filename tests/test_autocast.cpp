// The mixed precision policy: which operation runs in which dtype, that parameters and their
// gradients stay f32, and that a model learns as it does in f32.
#include <doctest/doctest.h>
#include <tendril/tendril.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "test_tools.h"

using namespace tendril;
using testing::contains;
using testing::message_of;

namespace {

using Inputs = std::vector<Tensor>;

Tensor noise(const Shape& shape, uint64_t seed, DType dtype = f32) {
  return to(randn(shape, f64, RandomKey{seed, 0, Stream::noise}), dtype);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = contiguous(a.detach()), y = contiguous(b.detach());
  return x.shape() == y.shape() && x.dtype() == y.dtype() &&
         std::memcmp(x.raw_data(), y.raw_data(), static_cast<size_t>(x.nbytes())) == 0;
}

// Largest difference over the largest magnitude.
double relative_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const auto x = a.detach().to_vector<double>(), y = b.detach().to_vector<double>();
  double difference = 0.0, magnitude = 1e-30;
  for (size_t i = 0; i < x.size(); ++i) {
    difference = std::max(difference, std::isnan(x[i]) ? INFINITY : std::abs(x[i] - y[i]));
    magnitude = std::max(magnitude, std::abs(y[i]));
  }
  return difference / magnitude;
}

struct Case {
  std::string name;
  std::vector<Shape> shapes;
  std::function<Tensor(const Inputs&)> run;
};

std::vector<Case> narrow_cases() {
  const auto feed = [](const Inputs& in) {
    return feed_forward(in[0], {in[1], in[2], in[3], in[4], in[5], in[6]}, Op::silu);
  };
  return {
      {"matmul", {{3, 5}, {5, 4}}, [](const Inputs& in) { return matmul(in[0], in[1]); }},
      {"matmul of batches",
       {{2, 3, 5}, {1, 5, 4}},
       [](const Inputs& in) { return matmul(in[0], in[1]); }},
      {"matmul of vectors", {{5}, {5, 4}}, [](const Inputs& in) { return matmul(in[0], in[1]); }},
      {"linear",
       {{2, 3, 5}, {4, 5}, {4}},
       [](const Inputs& in) { return linear(in[0], in[1], in[2]); }},
      {"linear of a transposed weight",
       {{3, 5}, {5, 4}},
       [](const Inputs& in) { return linear(in[0], transpose(in[1])); }},
      {"einsum",
       {{3, 5}, {4, 5}},
       [](const Inputs& in) { return einsum("ik,jk->ij", in[0], in[1]); }},
      {"feed_forward", {{3, 4}, {6, 4}, {6}, {5, 6}, {5}, {6, 4}, {6}}, feed},
      {"attention",
       {{1, 2, 6, 4}, {1, 2, 6, 4}, {1, 2, 6, 4}},
       [](const Inputs& in) {
         return scaled_dot_product_attention(in[0], in[1], in[2], {.causal = true});
       }},
  };
}

std::vector<Case> wide_cases() {
  const auto one = [](const std::string& name, Tensor (*function)(const Tensor&)) {
    return Case{
        name, {{3, 4}}, [function](const Inputs& in) { return function(abs(in[0]) + 0.5); }};
  };
  const Tensor targets = Tensor::from<int64_t>({1, 0, 3}, {3});
  return {
      {"sum", {{3, 4}}, [](const Inputs& in) { return sum(in[0], {0}); }},
      {"mean", {{3, 4}}, [](const Inputs& in) { return mean(in[0]); }},
      {"prod", {{3, 4}}, [](const Inputs& in) { return prod(in[0], {1}); }},
      {"var", {{3, 4}}, [](const Inputs& in) { return var(in[0], {1}); }},
      {"std", {{3, 4}}, [](const Inputs& in) { return tendril::std(in[0], {1}); }},
      {"norm", {{3, 4}}, [](const Inputs& in) { return norm(in[0]); }},
      {"logsumexp", {{3, 4}}, [](const Inputs& in) { return logsumexp(in[0], {1}); }},
      {"cumsum", {{3, 4}}, [](const Inputs& in) { return cumsum(in[0], 1); }},
      {"softmax", {{3, 4}}, [](const Inputs& in) { return softmax(in[0]); }},
      {"log_softmax", {{3, 4}}, [](const Inputs& in) { return log_softmax(in[0]); }},
      {"layer_norm", {{3, 4}}, [](const Inputs& in) { return layer_norm(in[0], {}, {}); }},
      {"rms_norm", {{3, 4}}, [](const Inputs& in) { return rms_norm(in[0], {}); }},
      one("exp", exp),
      one("expm1", expm1),
      one("log", log),
      one("log1p", log1p),
      one("rsqrt", rsqrt),
      one("reciprocal", reciprocal),
      one("softplus", softplus),
      {"pow", {{3, 4}}, [](const Inputs& in) { return pow(abs(in[0]) + 0.5, 1.5); }},
      {"cross_entropy", {{3, 4}}, [=](const Inputs& in) { return cross_entropy(in[0], targets); }},
      {"nll_loss", {{3, 4}}, [=](const Inputs& in) { return nll_loss(in[0], targets); }},
      {"mse_loss", {{3}, {3}}, [](const Inputs& in) { return mse_loss(in[0], in[1]); }},
      {"l1_loss", {{3}, {3}}, [](const Inputs& in) { return l1_loss(in[0], in[1]); }},
      {"binary_cross_entropy_with_logits",
       {{3}, {3}},
       [](const Inputs& in) { return binary_cross_entropy_with_logits(in[0], in[1]); }},
      {"kl_div", {{3}, {3}}, [](const Inputs& in) { return kl_div(in[0], abs(in[1]) + 0.5); }},
  };
}

Inputs leaves(const Case& c, DType dtype) {
  Inputs inputs;
  for (const Shape& shape : c.shapes)
    inputs.push_back(noise(shape, inputs.size() + 1, dtype).requires_grad_());
  return inputs;
}

nn::models::Gpt2 small_gpt2() {
  manual_seed(3);
  return nn::models::Gpt2({.vocab_size = 16,
                           .n_positions = 24,
                           .n_layer = 2,
                           .n_head = 2,
                           .n_embd = 32,
                           .embd_pdrop = 0.0,
                           .attn_pdrop = 0.0,
                           .resid_pdrop = 0.0});
}

// Counting upwards modulo 16 from a random start, which a model learns in some dozen steps.
Tensor counting(uint64_t step) {
  const Tensor start = randint(0, 16, {4, 1}, i64, RandomKey{5, step, Stream::data});
  std::vector<int64_t> tokens;
  for (const int64_t first : start.to_vector<int64_t>())
    for (int64_t t = 0; t <= 24; ++t) tokens.push_back((first + t) % 16);
  return Tensor::from(tokens, {4, 25});
}

std::vector<double> losses(std::optional<DType> policy, int steps) {
  nn::models::Gpt2 model = small_gpt2();
  optim::AdamW optimizer(model.named_parameters(), {.lr = 3e-3});
  std::vector<double> all;
  for (int i = 0; i < steps; ++i) {
    const Tensor tokens = counting(static_cast<uint64_t>(i));
    optimizer.zero_grad();
    Tensor loss;
    {
      const AutocastGuard autocast(policy);
      loss = model.loss(slice(tokens, 1, 0, 24), slice(tokens, 1, 1, 25));
    }
    loss.backward();
    optim::clip_grad_norm(optimizer.parameters(), 1.0);
    optimizer.step();
    all.push_back(loss.item<double>());
  }
  return all;
}

}  // namespace

TEST_SUITE("autocast") {
  TEST_CASE("products run in 16 bits and give their f32 operands f32 gradients") {
    for (const DType policy : {bf16, f16})
      for (const Case& c : narrow_cases()) {
        CAPTURE(c.name);
        const Inputs inputs = leaves(c, f32);
        const Tensor exact = c.run(inputs);
        Tensor y;
        {
          const AutocastGuard autocast(policy);
          y = c.run(inputs);
        }
        CHECK(y.dtype() == policy);
        CHECK(relative_difference(y, exact) < 0.03);
        CHECK(relative_difference(y, exact) > 0.0);
        const Tensor g = noise(y.shape(), 9, policy);
        const Inputs got = grad({y}, inputs, {g}), wanted = grad({exact}, inputs, {to(g, f32)});
        for (size_t i = 0; i < inputs.size(); ++i) {
          CAPTURE(i);
          CHECK(got[i].dtype() == f32);
          CHECK(relative_difference(got[i], wanted[i]) < 0.05);
        }
      }
  }

  TEST_CASE("the language model's loss multiplies in 16 bits and is f32") {
    const Tensor targets = Tensor::from<int64_t>({1, 0, 6}, {3});
    for (const Reduction reduction : {Reduction::mean, Reduction::none}) {
      Inputs in{noise({3, 8}, 1).requires_grad_(), noise({7, 8}, 2).requires_grad_(),
                noise({7}, 3).requires_grad_()};
      const auto loss = [&] {
        return linear_cross_entropy(in[0], in[1], targets, in[2], {.reduction = reduction});
      };
      const Tensor exact = loss();
      const AutocastGuard autocast;
      const Tensor y = loss();
      CHECK(y.dtype() == f32);
      CHECK(relative_difference(y, exact) < 0.02);
      CHECK(!same_bits(y, exact));
      const Tensor g = ones(y.shape());
      const Inputs got = grad({y}, in, {g}), wanted = grad({exact}, in, {g});
      for (size_t i = 0; i < in.size(); ++i) {
        CHECK(got[i].dtype() == f32);
        CHECK(relative_difference(got[i], wanted[i]) < 0.03);
      }
    }
  }

  TEST_CASE("sums, norms, softmax and losses give f32 for 16-bit inputs") {
    for (const Case& c : wide_cases()) {
      CAPTURE(c.name);
      const Inputs inputs = leaves(c, bf16);
      Inputs wide;
      for (const Tensor& input : inputs) wide.push_back(to(input.detach(), f32));
      const AutocastGuard autocast;
      const Tensor y = c.run(inputs);
      CHECK(y.dtype() == f32);
      CHECK(relative_difference(y, c.run(wide)) < 0.02);
      const Inputs gradients = grad({y}, inputs, {ones(y.shape())}, {}, true);
      CHECK(gradients[0].dtype() == bf16);
    }
  }

  TEST_CASE("everything else stays as it was") {
    const Tensor narrow = noise({3}, 1, bf16), single = noise({3}, 2), wide = noise({3}, 3, f64);
    const Tensor matrix = noise({3, 3}, 4, f64);
    const Tensor exact = matmul(matrix, single);
    const AutocastGuard autocast;
    CHECK(relu(narrow).dtype() == bf16);
    CHECK(add(single, narrow).dtype() == f32);
    CHECK(mul(narrow, narrow).dtype() == bf16);
    CHECK(exp(wide).dtype() == f64);
    CHECK(same_bits(matmul(matrix, single), exact));  // one operand of f64 keeps the others whole
    CHECK(matmul(matrix, wide).dtype() == f64);
    CHECK(sum(to(narrow, i64)).dtype() == i64);
  }

  TEST_CASE("a weight's gradient is not rounded on its way to f32") {
    const Tensor x = noise({64, 16}, 1);
    Tensor weight = noise({8, 16}, 2);
    weight.requires_grad_();
    Tensor y;
    {
      const AutocastGuard autocast;
      y = linear(x, weight);
    }
    const Tensor g = noise(y.shape(), 3, bf16);
    y.backward(g);
    const Tensor exact = matmul(transpose(to(g, f64)), to(to(x, bf16), f64));
    CHECK(relative_difference(weight.grad(), exact) < 1e-6);  // a bf16 result would be 2e-3 off
  }

  TEST_CASE("guards nest, end, and concern their own thread") {
    CHECK(!autocast_dtype());
    {
      const AutocastGuard outer;
      CHECK(autocast_dtype() == bf16);
      {
        const AutocastGuard inner(f16);
        CHECK(matmul(noise({2, 2}, 1), noise({2, 2}, 2)).dtype() == f16);
        const AutocastGuard off(std::nullopt);
        CHECK(matmul(noise({2, 2}, 1), noise({2, 2}, 2)).dtype() == f32);
      }
      CHECK(autocast_dtype() == bf16);
      std::optional<DType> elsewhere = f64;
      std::thread([&] { elsewhere = autocast_dtype(); }).join();
      CHECK(!elsewhere);
    }
    CHECK(!autocast_dtype());
    CHECK(contains(message_of([] { const AutocastGuard autocast(f32); }), "needs bf16 or f16"));
    CHECK(!autocast_dtype());
  }

  TEST_CASE("a parameter is rounded once while the outermost guard lives and it is unchanged") {
    Tensor weight = noise({4, 4}, 1);
    weight.requires_grad_();
    const auto rounded = [](const Tensor& x) { return detail::autocast_narrow(x)[0]; };
    const AutocastGuard autocast;
    const Tensor first = rounded(weight);
    CHECK(first.dtype() == bf16);
    CHECK(rounded(weight).storage() == first.storage());
    const Tensor seen_transposed = rounded(transpose(weight));
    CHECK(seen_transposed.storage() == rounded(transpose(weight)).storage());
    CHECK(seen_transposed.strides() == Strides{1, 4});
    CHECK(same_bits(seen_transposed, transpose(first)));
    {
      const AutocastGuard inner(f16);
      CHECK(rounded(weight).dtype() == f16);
    }
    CHECK(rounded(weight).storage() == first.storage());
    {
      const NoGradGuard no_grad;
      mul_(weight, 2.0);
    }
    CHECK(same_bits(rounded(weight), to(weight.detach(), bf16)));  // not the old numbers
    const Tensor activation = relu(weight);
    CHECK(rounded(activation).storage() != rounded(activation).storage());  // no use keeping it
  }

  TEST_CASE("nothing is kept after the guard") {
    Tensor weight = noise({4, 4}, 1);
    weight.requires_grad_();
    const int64_t before = memory_stats().current_bytes;
    {
      const AutocastGuard autocast;
      detail::autocast_narrow(weight);
      CHECK(memory_stats().current_bytes > before);
    }
    CHECK(memory_stats().current_bytes == before);
  }

  TEST_CASE("a checkpointed block is computed again under the policy of its first run") {
    Tensor weight = noise({8, 8}, 1), x = noise({5, 8}, 2);
    weight.requires_grad_();
    x.requires_grad_();
    const auto block = [&](const Inputs& in) {
      return layer_norm(gelu(linear(in[0], weight)), {}, {});
    };
    const auto gradients = [&](bool checkpointed, std::optional<DType> policy) {
      Tensor y;
      {
        const AutocastGuard autocast(policy);
        y = checkpointed ? checkpoint(block, {x}) : block({x});
      }
      const AutocastGuard other(policy ? std::nullopt : std::optional(bf16));  // at backward
      return grad({y}, {x, weight}, {noise(y.shape(), 4)});
    };
    for (const std::optional<DType> policy : {std::optional<DType>(), std::optional(bf16)}) {
      const Inputs plain = gradients(false, policy), again = gradients(true, policy);
      for (size_t i = 0; i < plain.size(); ++i) CHECK(same_bits(plain[i], again[i]));
    }
    CHECK(!same_bits(gradients(false, bf16)[1], gradients(false, std::nullopt)[1]));
  }

  TEST_CASE("a GPT-2 keeps f32 parameters and gradients, and learns as it does in f32") {
    nn::models::Gpt2 model = small_gpt2();
    const Tensor tokens = counting(0), in = slice(tokens, 1, 0, 24), out = slice(tokens, 1, 1, 25);
    const double exact = model.loss(in, out).item<double>();
    {
      const AutocastGuard autocast;
      const Tensor loss = model.loss(in, out);
      CHECK(loss.dtype() == f32);
      CHECK(loss.item<double>() == doctest::Approx(exact).epsilon(0.002));
      CHECK(loss.item<double>() != exact);
      CHECK(model.forward(in).dtype() == bf16);
      loss.backward();
    }
    for (const auto& [name, parameter] : model.named_parameters()) {
      CAPTURE(name);
      CHECK(parameter.dtype() == f32);
      CHECK(parameter.grad().dtype() == f32);
    }
    const std::vector<double> full = losses(std::nullopt, 60), mixed = losses(bf16, 60);
    for (size_t i = 0; i < full.size(); ++i)
      CHECK(std::abs(mixed[i] - full[i]) < 0.05 * full[i] + 0.02);
    CHECK(mixed.back() < 0.5 * mixed.front());
  }
}
