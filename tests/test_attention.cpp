// Attention beyond one block of 64 queries and 256 keys, against the same thing composed from
// matmul and softmax; masks that hide everything, dropout's statistics, sizes of 0.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include <tendril/tendril.h>

using namespace tendril;

namespace {

using Inputs = std::vector<Tensor>;

Tensor noise(const Shape& shape, uint64_t seed) {
  return randn(shape, f64, RandomKey{seed, 0, Stream::noise});
}

// softmax(q k^T / sqrt(D) + mask) v with every score in memory; heads of k and v are repeated.
Tensor composed(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask) {
  const int64_t B = k.size(0), heads = k.size(1), group = q.size(1) / heads;
  const auto repeated = [&](const Tensor& x) {
    const Tensor wide = expand(unsqueeze(x, 2), {B, heads, group, x.size(2), x.size(3)});
    return reshape(wide, {B, heads * group, x.size(2), x.size(3)});
  };
  const Tensor scores =
      matmul(q, transpose(repeated(k))) * (1.0 / std::sqrt(static_cast<double>(q.size(3))));
  return matmul(softmax(scores + mask), repeated(v));
}

// 0 where query t may see key s, -inf elsewhere.
Tensor visible(int64_t queries, int64_t keys, int64_t window) {
  std::vector<double> values;
  for (int64_t t = 0; t < queries; ++t)
    for (int64_t s = 0; s < keys; ++s) {
      const int64_t position = t + keys - queries;
      const bool sees = s <= position && (window == 0 || s > position - window);
      values.push_back(sees ? 0.0 : -std::numeric_limits<double>::infinity());
    }
  return Tensor::from(values, {queries, keys});
}

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const std::vector<double> x = a.detach().to_vector<double>(), y = b.detach().to_vector<double>();
  double worst = 0.0;
  for (size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, std::isnan(x[i]) ? INFINITY : std::fabs(x[i] - y[i]));
  return worst;
}

}  // namespace

TEST_SUITE("attention") {
  TEST_CASE("several blocks: causal, windowed and grouped heads, with gradients") {
    for (const auto& [queries, keys, window] :
         {std::tuple<int64_t, int64_t, int64_t>{70, 70, 0}, {70, 300, 0}, {130, 300, 20}}) {
      CAPTURE(keys);
      Inputs inputs{noise({2, 4, queries, 6}, 1), noise({2, 2, keys, 6}, 2),
                    noise({2, 2, keys, 6}, 3)};
      for (Tensor& input : inputs) input.requires_grad_();
      AttentionOptions options;
      options.causal = true;
      options.window = window;
      const Tensor got = scaled_dot_product_attention(inputs[0], inputs[1], inputs[2], options);
      const Tensor expected =
          composed(inputs[0], inputs[1], inputs[2], visible(queries, keys, window));
      CHECK(largest_difference(got, expected) < 1e-12);
      const Tensor weights = noise(got.shape(), 4);
      const Inputs gradients = grad({got}, inputs, {weights}),
                   wanted = grad({expected}, inputs, {weights});
      for (size_t i = 0; i < inputs.size(); ++i)
        CHECK(largest_difference(gradients[i], wanted[i]) < 1e-11);
    }
  }

  TEST_CASE("a query that sees nothing gives zeros and no gradient") {
    Tensor q = ones({1, 1, 3, 2}, f64),
           k = ones({1, 1, 2, 2}, f64);  // query 0 stands before all keys
    q.requires_grad_();
    AttentionOptions options;
    options.causal = true;
    const Tensor y = scaled_dot_product_attention(q, k, k, options);
    CHECK(y.to_vector<double>() == std::vector<double>{0, 0, 1, 1, 1, 1});
    sum(y).backward();
    CHECK(q.grad().to_vector<double>() == std::vector<double>(6, 0.0));
  }

  TEST_CASE("NaN in a query reaches its output and the gradients, however few its keys") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const int64_t keys : {1, 3, 15, 16, 40, 300})
      for (const bool causal : {false, true}) {
        CAPTURE(keys);
        CAPTURE(causal);
        Tensor q = Tensor::from(std::vector<double>{nan, 1.0, 1.0}, {1, 1, 3, 1});
        Tensor k = ones({1, 1, keys, 1}, f64), v = ones({1, 1, keys, 1}, f64);
        for (Tensor* x : {&q, &k, &v}) x->requires_grad_();
        AttentionOptions options;
        options.causal = causal;
        const Tensor y = scaled_dot_product_attention(q, k, v, options);
        const Inputs gradients = grad({sum(y)}, {q, k, v});
        // When causal and with fewer keys than queries, query 0 stands before all keys.
        const bool sees = !causal || keys >= 3;
        const std::vector<double> out = y.to_vector<double>();
        CHECK(std::isnan(out[0]) == sees);
        CHECK(out[2] == doctest::Approx(1.0));
        CHECK(std::isnan(gradients[0].to_vector<double>()[0]) == sees);
        for (size_t i = 1; sees && i < gradients.size(); ++i)  // else 0 x NaN, as in any product
          CHECK(std::isnan(gradients[i].to_vector<double>()[0]));
      }
  }

  TEST_CASE("dropout drops the given share and keeps the mean") {
    const Tensor q = zeros({1, 8, 128, 1}), k = zeros({1, 8, 512, 1}), v = ones({1, 8, 512, 1});
    AttentionOptions options;
    options.dropout = 0.3;
    const std::vector<double> kept =
        scaled_dot_product_attention(q, k, v, options).to_vector<double>();
    double mean = 0.0, square = 0.0;
    for (double value : kept) mean += value / static_cast<double>(kept.size());
    for (double value : kept)
      square += (value - mean) * (value - mean) / static_cast<double>(kept.size());
    CHECK(mean == doctest::Approx(1.0).epsilon(0.005));
    CHECK(std::sqrt(square) ==
          doctest::Approx(std::sqrt(0.3 / 0.7 / 512)).epsilon(0.1));  // of 512 coins
    options.training = false;
    CHECK(scaled_dot_product_attention(q, k, v, options).to_vector<double>()[5] ==
          doctest::Approx(1.0));
  }

  TEST_CASE("memory grows with T, not with T^2: 16384 positions take tens of megabytes") {
#ifdef __SANITIZE_ADDRESS__
    constexpr int64_t kPositions = 4096;  // its instrumented loops take minutes for more
#else
    constexpr int64_t kPositions = 16384;  // the scores alone would be 1 GiB
#endif
    for (const DType dtype : {f32, bf16}) {
      CAPTURE(dtype);
      Inputs inputs;
      for (const uint64_t seed : {1, 2, 3})
        inputs.push_back(
            to(randn({1, 1, kPositions, 64}, f32, RandomKey{seed, 0, Stream::noise}), dtype)
                .requires_grad_());
      const int64_t held = memory_stats().current_bytes;
      reset_peak_memory_stats();
      AttentionOptions options;
      options.causal = true;
      const Tensor y = scaled_dot_product_attention(inputs[0], inputs[1], inputs[2], options);
      y.backward(ones(y.shape(), dtype));
      const int64_t tensor_bytes = kPositions * 64 * 4;
      CHECK(memory_stats().peak_bytes - held < 12 * tensor_bytes);  // 48 MiB of 1 GiB
      CHECK(inputs[0].grad().defined());
    }
  }

  TEST_CASE("no keys, no queries, no channels") {
    const Tensor q = ones({2, 2, 3, 4}), none = ones({2, 1, 0, 4});
    CHECK(scaled_dot_product_attention(q, none, none).to_vector<double>() ==
          std::vector<double>(48, 0.0));
    CHECK(scaled_dot_product_attention(ones({2, 2, 0, 4}), q, q).shape() == Shape{2, 2, 0, 4});
    const Tensor flat = ones({1, 1, 3, 0});
    CHECK(scaled_dot_product_attention(flat, flat, flat).numel() == 0);
  }
}
