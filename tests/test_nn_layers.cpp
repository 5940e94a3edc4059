#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/gradcheck.h>
#include <tendril/autograd/tape.h>
#include <tendril/nn/attention.h>
#include <tendril/nn/embedding.h>
#include <tendril/nn/init.h>
#include <tendril/nn/layer_norm.h>
#include <tendril/nn/mlp.h>
#include <tendril/nn/rms_norm.h>

#include <algorithm>
#include <cmath>
#include <vector>

using namespace tendril;

namespace {

void check_close(const Tensor& got, const std::vector<double>& expected, double tolerance = 1e-6) {
  const std::vector<double> values = got.to_vector<double>();
  REQUIRE(values.size() == expected.size());
  for (size_t i = 0; i < values.size(); ++i) CHECK(std::abs(values[i] - expected[i]) <= tolerance);
}

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const std::vector<double> x = a.to_vector<double>(), y = b.to_vector<double>();
  double largest = 0.0;
  for (size_t i = 0; i < x.size(); ++i) largest = std::max(largest, std::abs(x[i] - y[i]));
  return largest;
}

struct Moments {
  double mean, std, low, high;
};

Moments moments(const Tensor& x) {
  const std::vector<double> values = x.to_vector<double>();
  double sum = 0.0, squares = 0.0;
  for (const double value : values) sum += value;
  const double mean = sum / static_cast<double>(values.size());
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, std::sqrt(squares / static_cast<double>(values.size())),
          *std::min_element(values.begin(), values.end()),
          *std::max_element(values.begin(), values.end())};
}

Tensor noise(const Shape& shape, DType dtype = f32, uint64_t position = 0) {
  return randn(shape, dtype, RandomKey{3, position, Stream::noise});
}

}  // namespace

TEST_SUITE("nn_init") {
  TEST_CASE("normal and uniform draws have the promised moments") {
    manual_seed(1);
    const Tensor x = Tensor::empty({100000});
    nn::init::normal_(x, 2.0, 0.5);
    Moments m = moments(x);
    CHECK(std::abs(m.mean - 2.0) < 0.01);
    CHECK(std::abs(m.std - 0.5) < 0.01);
    nn::init::uniform_(x, -1.0, 3.0);
    m = moments(x);
    CHECK(std::abs(m.mean - 1.0) < 0.02);
    CHECK(std::abs(m.std - 4.0 / std::sqrt(12.0)) < 0.01);
    CHECK(m.low >= -1.0);
    CHECK(m.high < 3.0);
  }

  TEST_CASE("the truncated normal stays inside and has its own spread") {
    manual_seed(1);
    const Tensor x = Tensor::empty({20000}, f64);
    nn::init::trunc_normal_(x, 0.0, 1.0, -1.0, 1.0);
    const Moments m = moments(x);
    CHECK(m.low >= -1.0);
    CHECK(m.high <= 1.0);
    CHECK(std::abs(m.mean) < 0.015);
    CHECK(std::abs(m.std - 0.539560) < 0.01);  // sqrt(1 - 2 phi(1) / (2 Phi(1) - 1))
    CHECK_THROWS_AS(nn::init::trunc_normal_(x, 0.0, 1.0, 5.0, 6.0), Error);
    CHECK_THROWS_AS(nn::init::trunc_normal_(x, 0.0, 1.0, 1.0, -1.0), Error);
  }

  TEST_CASE("fan-based bounds") {
    manual_seed(1);
    const Tensor x = Tensor::empty({300, 200});  // fan_in 200, fan_out 300
    nn::init::kaiming_uniform_(x);
    CHECK(moments(x).high <= std::sqrt(6.0 / 200.0));
    CHECK(moments(x).high > 0.99 * std::sqrt(6.0 / 200.0));
    nn::init::xavier_uniform_(x, 2.0);
    CHECK(moments(x).high <= 2.0 * std::sqrt(6.0 / 500.0));
    CHECK(moments(x).low < -0.99 * 2.0 * std::sqrt(6.0 / 500.0));
    CHECK_THROWS_AS(nn::init::xavier_uniform_(zeros({3})), Error);
    const Tensor kernel = Tensor::empty({10, 20, 3, 5});  // fan_in 300
    nn::init::kaiming_uniform_(kernel, std::sqrt(5.0));
    CHECK(moments(kernel).high <= 1.0 / std::sqrt(300.0));
  }

  TEST_CASE("constants, errors, seeds and skipping") {
    const Tensor x = Tensor::empty({3}, bf16);
    nn::init::ones_(x);
    CHECK(x.to_vector<float>() == std::vector<float>(3, 1.0f));
    nn::init::zeros_(x);
    CHECK(x.to_vector<float>() == std::vector<float>(3, 0.0f));
    CHECK_THROWS_AS(nn::init::normal_(zeros({2}, i64)), Error);
    CHECK_THROWS_AS(nn::init::normal_(x, 0.0, -1.0), Error);
    CHECK_THROWS_AS(nn::init::uniform_(x, 1.0, 0.0), Error);
    manual_seed(5);
    nn::Linear a(4, 3);
    manual_seed(5);
    nn::Linear b(4, 3);
    CHECK(a.weight().to_vector<float>() == b.weight().to_vector<float>());
    nn::Linear c(4, 3);
    CHECK(a.weight().to_vector<float>() != c.weight().to_vector<float>());
    const nn::init::SkipInit skip;
    nn::init::constant_(x, 2.0);
    nn::init::normal_(x);
    CHECK(x.to_vector<float>() == std::vector<float>(3, 2.0f));
  }
}

TEST_SUITE("nn_layers") {
  TEST_CASE("Linear") {
    nn::Linear layer(2, 3);
    layer.load_state_dict({{"weight", Tensor::from<float>({1, 2, 3, 4, 5, 6}, {3, 2})},
                           {"bias", Tensor::from<float>({10, 20, 30}, {3})}});
    check_close(layer(Tensor::from<float>({1, -1, 0, 2}, {2, 2})), {9, 19, 29, 14, 28, 42});
    CHECK(layer(zeros({4, 5, 2})).shape() == Shape{4, 5, 3});
    CHECK_THROWS_AS(layer(zeros({4, 3})), Error);
    CHECK_THROWS_AS(nn::Linear(0, 3), Error);
    nn::Linear plain(2, 3, {.bias = false, .dtype = f64});
    CHECK(!plain.bias().defined());
    CHECK(plain.parameter_count() == 6);
    CHECK(plain.weight().dtype() == f64);
    CHECK_THROWS_AS(nn::Linear(zeros({3})), Error);
    CHECK_THROWS_AS(nn::Linear(zeros({3, 2}), zeros({2})), Error);

    manual_seed(0);
    nn::Linear wide(400, 300);
    for (const Tensor& parameter : wide.parameters()) {
      CHECK(moments(parameter).high <= 0.05);  // 1 / sqrt(400)
      CHECK(moments(parameter).high > 0.048);
      CHECK(moments(parameter).low < -0.048);
    }
  }

  TEST_CASE("Embedding") {
    manual_seed(0);
    nn::Embedding table(500, 40, {.std = 0.02});
    CHECK(std::abs(moments(table.weight()).std - 0.02) < 0.001);
    const Tensor rows = table(Tensor::from<int64_t>({3, 3, 499, 0}, {2, 2}));
    CHECK(rows.shape() == Shape{2, 2, 40});
    check_close(select(select(rows, 0, 0), 0, 1), select(table.weight(), 0, 3).to_vector<double>(),
                0.0);
    CHECK_THROWS_AS(table(Tensor::from<int64_t>({500}, {1})), Error);
    CHECK_THROWS_AS(table(Tensor::from<int64_t>({-1}, {1})), Error);

    nn::Embedding padded(3, 2, {.padding_idx = 1});
    check_close(padded(Tensor::from<int64_t>({1}, {1})), {0, 0}, 0.0);
    sum(padded(Tensor::from<int64_t>({0, 1, 1}, {3}))).backward();
    check_close(padded.weight().grad(), {1, 1, 0, 0, 0, 0});
    CHECK_THROWS_AS(nn::Embedding(3, 2, {.padding_idx = 3}), Error);
  }

  TEST_CASE("LayerNorm and RmsNorm") {
    nn::LayerNorm norm(4, {.eps = 0.0});
    // mean 2.5, variance 1.25
    check_close(norm(Tensor::from<float>({1, 2, 3, 4}, {1, 4})),
                {-1.3416408, -0.4472136, 0.4472136, 1.3416408});
    CHECK(norm.parameter_count() == 8);
    CHECK(nn::LayerNorm(4, {.bias = false}).parameter_count() == 4);
    nn::RmsNorm rms(2, {.eps = 0.0});
    // root mean square of (3, 4): sqrt(12.5)
    check_close(rms(Tensor::from<float>({3, 4}, {1, 2})), {0.8485281, 1.1313708});
    CHECK(rms.parameter("weight").to_vector<float>() == std::vector<float>{1, 1});
    CHECK_THROWS_AS(norm(zeros({3})), Error);
    CHECK_THROWS_AS(nn::LayerNorm(0), Error);
    CHECK_THROWS_AS(nn::RmsNorm(-1), Error);
  }

  TEST_CASE("Dropout follows the mode") {
    manual_seed(2);
    nn::Dropout drop(0.25);
    const Tensor x = ones({40000});
    const std::vector<float> dropped = drop(x).to_vector<float>();
    const auto zeros_count = std::count(dropped.begin(), dropped.end(), 0.0f);
    CHECK(std::abs(static_cast<double>(zeros_count) / 40000.0 - 0.25) < 0.01);
    CHECK(*std::max_element(dropped.begin(), dropped.end()) == doctest::Approx(4.0 / 3.0));
    drop.eval();
    CHECK(drop(x).to_vector<float>() == std::vector<float>(40000, 1.0f));
    CHECK_THROWS_AS(nn::Dropout(1.0), Error);
    CHECK_THROWS_AS(nn::Dropout(-0.1), Error);
  }

  TEST_CASE("Mlp applies each activation") {
    // With identity matrices the block is the activation itself. x = -1, 0.5, 3
    const Tensor x = Tensor::from<double>({-1, 0.5, 3}, {1, 3});
    const Tensor identity = eye(3, -1, f64);
    const auto run = [&](nn::Activation activation) {
      nn::Mlp mlp(3, 3, {.activation = activation, .bias = false, .dtype = f64});
      for (const NamedTensor& entry : mlp.named_parameters())
        mlp.load_state_dict({{entry.name, identity}}, {.strict = false});
      return mlp(x);
    };
    check_close(run(nn::Activation::gelu), {-0.1586553, 0.3457312, 2.9959503});
    check_close(run(nn::Activation::gelu_tanh), {-0.1588080, 0.3457140, 2.9963626});
    check_close(run(nn::Activation::relu), {0, 0.5, 3});
    check_close(run(nn::Activation::silu), {-0.2689414, 0.3112297, 2.8577224});
    check_close(run(nn::Activation::swiglu), {0.2689414, 0.1556148, 8.5731671});
    CHECK(nn::Mlp(3, 5, {.activation = nn::Activation::swiglu}).parameter_count() ==
          3 * 15 + 5 + 5 + 3);
    CHECK(nn::Mlp(3, 5).parameter_count() == 2 * 15 + 5 + 3);
  }

  TEST_CASE("SwiGLU gates with the layer called gate") {
    nn::Mlp mlp(1, 1, {.activation = nn::Activation::swiglu, .bias = false});
    mlp.load_state_dict({{"gate.weight", full({1, 1}, 2.0)},
                         {"up.weight", full({1, 1}, 3.0)},
                         {"down.weight", ones({1, 1})}});
    check_close(mlp(ones({1, 1})), {5.2847825}, 1e-5);  // 2 / (1 + e^-2) * 3
  }

  TEST_CASE("heads split and merge") {
    const Tensor x = reshape(arange(2 * 3 * 4, f32), {2, 3, 4});
    const Tensor heads = nn::split_heads(x, 2);
    CHECK(heads.shape() == Shape{2, 2, 3, 2});
    check_close(select(select(heads, 0, 0), 0, 1), {2, 3, 6, 7, 10, 11});
    check_close(nn::merge_heads(heads), x.to_vector<double>());
    CHECK_THROWS_AS(nn::split_heads(x, 3), Error);
    CHECK_THROWS_AS(nn::merge_heads(x), Error);
  }

  TEST_CASE("attention averages values when all scores are equal") {
    nn::MultiHeadAttention attention(2, 1, {.bias = false});
    const Tensor identity = eye(2), nothing = zeros({2, 2});
    attention.load_state_dict({{"q_proj.weight", nothing},
                               {"k_proj.weight", nothing},
                               {"v_proj.weight", identity},
                               {"o_proj.weight", identity}});
    const Tensor x = Tensor::from<float>({2, 0, 4, 2, 0, 1}, {1, 3, 2});
    check_close(attention(x), {2, 0, 3, 1, 2, 1});  // running means
    // a mask that hides the first token from the third
    const Tensor mask =
        Tensor::from<bool>({true, true, true, true, true, true, false, true, true}, {3, 3});
    check_close(attention(x, mask), {2, 0, 3, 1, 2, 1.5});
    CHECK_THROWS_AS(attention(zeros({1, 3, 4})), Error);
    CHECK_THROWS_AS(attention(zeros({3, 2})), Error);
  }

  TEST_CASE("grouped queries equal full attention with repeated key and value heads") {
    manual_seed(4);
    nn::MultiHeadAttention grouped(8, 4, {.kv_heads = 2, .dtype = f64});
    nn::MultiHeadAttention full_heads(8, 4, {.dtype = f64});
    StateDict state = grouped.state_dict();
    for (const char* name : {"k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias"}) {
      const std::vector<Tensor> heads = split(state.at(name), 2, 0);  // two heads of two channels
      state[name] = cat({heads[0], heads[0], heads[1], heads[1]}, 0);
    }
    full_heads.load_state_dict(state);
    const Tensor x = noise({2, 5, 8}, f64);
    CHECK(largest_difference(grouped(x), full_heads(x)) < 1e-12);
  }

  TEST_CASE("a cache gives what the whole sequence gives") {
    manual_seed(6);
    for (const bool rotary : {false, true}) {
      nn::AttentionLayerOptions options = {.kv_heads = 2, .dtype = f64};
      if (rotary) options.rotary_theta = 10000.0;
      nn::MultiHeadAttention attention(8, 4, options);
      attention.eval();
      const NoGradGuard no_grad;
      const Tensor x = noise({2, 6, 8}, f64);
      const Tensor whole = attention(x);
      nn::KeyValueCache cache(6);
      std::vector<Tensor> parts;
      for (const auto& [begin, end] : {std::pair{0, 3}, std::pair{3, 4}, std::pair{4, 6}})
        parts.push_back(attention(slice(x, 1, begin, end), cache));
      CHECK(cache.length() == 6);
      CHECK(largest_difference(cat(parts, 1), whole) < 1e-12);
      CHECK_THROWS_AS(attention(slice(x, 1, 0, 1), cache), Error);  // full
      cache.clear();
      CHECK(largest_difference(attention(x, cache), whole) < 1e-12);
    }
  }

  TEST_CASE("the cache checks what it is given") {
    nn::KeyValueCache cache(4);
    cache.append(zeros({1, 2, 2, 3}), zeros({1, 2, 2, 5}));
    CHECK_THROWS_AS(cache.append(zeros({1, 2, 1, 4}), zeros({1, 2, 1, 5})), Error);
    CHECK_THROWS_AS(cache.append(zeros({2, 2, 1, 3}), zeros({2, 2, 1, 5})), Error);
    CHECK_THROWS_AS(cache.append(zeros({1, 2, 1, 3}), zeros({1, 2, 2, 5})), Error);
    CHECK_THROWS_AS(cache.append(zeros({2, 1, 3}), zeros({2, 1, 3})), Error);
    Tensor k = zeros({1, 2, 1, 3});
    k.requires_grad_();
    CHECK_THROWS_AS(cache.append(k, zeros({1, 2, 1, 5})), Error);
    CHECK(cache.length() == 2);
    CHECK_THROWS_AS(nn::KeyValueCache(0), Error);
  }

  TEST_CASE("a window of two sees a token and the one before it") {
    manual_seed(9);
    nn::MultiHeadAttention attention(4, 2, {.window = 2});
    const Tensor x = noise({1, 5, 4});
    Tensor changed = clone(x);
    fill_(select(changed, 1, 1), 3.0);
    const Tensor before = attention(x), after = attention(changed);
    for (int64_t t = 0; t < 5; ++t) {
      CAPTURE(t);
      const bool sees = t == 1 || t == 2;
      CHECK((largest_difference(select(before, 1, t), select(after, 1, t)) > 1e-4) == sees);
    }
  }

  TEST_CASE("attention and Mlp drop in training mode only") {
    manual_seed(9);
    constexpr double kAlmostAll = 0.9999999;
    nn::MultiHeadAttention attention(4, 2, {.dropout = kAlmostAll});
    nn::Mlp mlp(4, 8, {.dropout = kAlmostAll});
    const Tensor x = noise({1, 5, 4});
    const Tensor bias = attention.parameter("o_proj.bias");
    CHECK(largest_difference(attention(x), expand(bias, {1, 5, 4})) == 0.0);
    CHECK(largest_difference(mlp(x), zeros({1, 5, 4})) == 0.0);
    attention.eval();
    mlp.eval();
    CHECK(largest_difference(attention(x), expand(bias, {1, 5, 4})) > 1e-3);
    CHECK(largest_difference(mlp(x), zeros({1, 5, 4})) > 1e-3);
  }

  TEST_CASE("attention options out of range are Errors") {
    CHECK_THROWS_AS(nn::MultiHeadAttention(8, 3), Error);
    CHECK_THROWS_AS(nn::MultiHeadAttention(8, 0), Error);
    CHECK_THROWS_AS(nn::MultiHeadAttention(8, 4, {.kv_heads = 3}), Error);
    CHECK_THROWS_AS(nn::MultiHeadAttention(8, 4, {.causal = false, .window = 2}), Error);
    CHECK_THROWS_AS(nn::MultiHeadAttention(8, 4, {.dropout = 1.0}), Error);
    CHECK(nn::MultiHeadAttention(8, 3, {.head_channels = 4})(zeros({1, 2, 8})).shape() ==
          Shape{1, 2, 8});
  }

  TEST_CASE("gradients reach every parameter of an attention block and an Mlp") {
    manual_seed(8);
    nn::MultiHeadAttention attention(4, 2, {.kv_heads = 1, .rotary_theta = 100.0, .dtype = f64});
    nn::Mlp mlp(4, 6, {.activation = nn::Activation::swiglu, .dtype = f64});
    const Tensor x = noise({2, 3, 4}, f64, 1), weight = noise({2, 3, 4}, f64, 2);
    const auto loss = [&] { return sum(mlp(attention(x)) * weight); };
    loss().backward();
    std::vector<NamedTensor> parameters = attention.named_parameters();
    for (const NamedTensor& entry : mlp.named_parameters()) parameters.push_back(entry);
    const NoGradGuard no_grad;
    for (const NamedTensor& entry : parameters) {
      CAPTURE(entry.name);
      REQUIRE(entry.tensor.grad().defined());
      double* value = entry.tensor.data<double>();  // central difference in the last element
      const int64_t last = entry.tensor.numel() - 1;
      const double before = value[last], h = 1e-5;
      value[last] = before + h;
      const double above = loss().item<double>();
      value[last] = before - h;
      const double below = loss().item<double>();
      value[last] = before;
      CHECK(std::abs(entry.tensor.grad().to_vector<double>().back() - (above - below) / (2 * h)) <
            1e-7);
    }
  }
}
