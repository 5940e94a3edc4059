// The norms, dropout, embedding and rotary embedding: hand-checked values, layouts,
// extreme inputs and errors. The gradients of every op are also checked by test_ops.cpp.
#include <doctest/doctest.h>
#include <layer_values.h>

#include <functional>
#include <iterator>

#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/threads.h>

using namespace tendril;
using namespace tendril::testing;

namespace {

// All gradients of fn(inputs) for a random output gradient, and the output itself.
std::vector<Tensor> forward_backward(const std::function<Tensor()>& fn,
                                     const std::vector<Tensor>& inputs) {
  const Tensor y = fn();
  std::vector<Tensor> results = grad({y}, inputs, {randn(y.shape(), y.dtype(), RandomKey{9})});
  results.push_back(y.detach());
  return results;
}

void check_thread_independence(const std::function<Tensor()>& fn,
                               const std::vector<Tensor>& inputs) {
  const int before = num_threads();
  set_num_threads(1);
  const auto expected = forward_backward(fn, inputs);
  for (const int threads : {2, 4}) {
    set_num_threads(threads);
    const auto results = forward_backward(fn, inputs);
    for (size_t i = 0; i < expected.size(); ++i) CHECK(same_bits(results[i], expected[i]));
  }
  set_num_threads(before);
}

}  // namespace

TEST_SUITE("layers") {
  // ---- layer_norm and rms_norm

  TEST_CASE("layer_norm and its gradients") {
    const Tensor x = leaf(floats({1, 2, -1, 0.5}, {1, 4}));
    const Tensor weight = leaf(floats({1, 0.5, 2, -1}, {4}));
    const Tensor bias = leaf(floats({0, 0, 0, 0}, {4}));
    const Tensor y = layer_norm(x, weight, bias);
    // mean 0.625, variance 1.171875
    check_near(y, {0.3464087, 0.6350826, -3.0022089, 0.1154696}, 1e-6);
    y.backward(floats({0.1, -0.2, 0.3, 0.4}, {1, 4}));
    check_near(x.grad(), {0.1219352, 0.1391769, 0.1798274, -0.4409395}, 1e-6);
    check_near(weight.grad(), {0.0346409, -0.2540330, -0.4503313, -0.0461878}, 1e-6);
    check_near(bias.grad(), {0.1, -0.2, 0.3, 0.4}, 1e-7);
  }

  TEST_CASE("rms_norm and its gradients") {
    const Tensor x = leaf(floats({1, 2, -1, 0.5}, {1, 4}));
    const Tensor weight = leaf(floats({1, 0.5, 2, -1}, {4}));
    const Tensor y = rms_norm(x, weight, 1e-5);
    check_near(y, {0.7999974, 0.7999974, -1.5999949, -0.3999987}, 1e-6);
    y.backward(floats({0.1, -0.2, 0.3, 0.4}, {1, 4}));
    check_near(x.grad(), {0.1951986, 0.1503980, 0.3647996, -0.2623995}, 1e-6);
    check_near(weight.grad(), {0.0799997, -0.3199990, -0.2399992, 0.1599995}, 1e-6);
  }

  TEST_CASE("norms without weight or bias") {
    const Tensor x = floats({-1, 1, 3, 5}, {2, 2});
    check_near(layer_norm(x, {}, {}, 0.0), {-1, 1, -1, 1}, 1e-6);
    check_near(layer_norm(x, {}, floats({10, 20}, {2}), 0.0), {9, 21, 9, 21}, 1e-5);
    check_near(layer_norm(x, floats({2, 3}, {2}), {}, 0.0), {-2, 3, -2, 3}, 1e-6);
    check_near(rms_norm(floats({3, 3, -3}, {3}), {}, 0.0), {1, 1, -1}, 1e-6);
    check_near(layer_norm(floats({7, 7, 7}, {3}), {}, floats({1, 2, 3}, {3})), {1, 2, 3}, 1e-6);
  }

  TEST_CASE("add_layer_norm is an addition and layer_norm, to the bit") {
    const auto leaf = [](const Shape& shape, uint64_t seed, DType dtype = f32) {
      return randn(shape, dtype, RandomKey{seed}).requires_grad_();
    };
    for (const DType dtype : {f32, bf16}) {  // of the residual
      const Tensor x = leaf({5, 3, 24}, 1), residual = leaf({5, 3, 24}, 2, dtype);
      const Tensor weight = leaf({24}, 3), bias = leaf({24}, 4);
      const auto fused = [&] {
        const auto [sum, y] = add_layer_norm(x, residual, weight, bias);
        return cat({sum, y});
      };
      const auto separate = [&] {
        const Tensor sum = x + residual;
        return cat({sum, layer_norm(sum, weight, bias)});
      };
      const std::vector<Tensor> leaves = {x, residual, weight, bias};
      const auto one = forward_backward(fused, leaves), two = forward_backward(separate, leaves);
      for (size_t i = 0; i < two.size(); ++i) CHECK(same_bits(one[i], two[i]));
    }
    // One output alone, and summands that must be broadcast or promoted first.
    const Tensor wide = leaf({4, 6}, 5), row = leaf({6}, 6);
    const auto only = [&](const Tensor& y) { return grad({y}, {wide}, {ones({4, 6})})[0]; };
    CHECK(same_bits(only(add_layer_norm(wide, wide, {}, {}).sum), full({4, 6}, 2.0)));
    CHECK(same_bits(only(add_layer_norm(wide, zeros({4, 6}), row, {}).y),
                    only(layer_norm(wide, row, {}))));
    CHECK(add_layer_norm(row, wide, {}, {}).y.shape() == Shape{4, 6});
    CHECK(add_layer_norm(to(wide, bf16), wide, {}, {}).sum.dtype() == f32);
  }

  TEST_CASE("layer_norm of small deviations from a large mean") {
    // 4096 + {-1, 1, -1, ...}: E[x^2] - E[x]^2 would be 0 in float.
    Values x, expected;
    for (int i = 0; i < 70; ++i) {
      expected.push_back(i % 2 ? 1.0 : -1.0);
      x.push_back(4096.0 + expected.back());
    }
    check_near(layer_norm(floats(x, {70}), {}, {}, 0.0), expected, 1e-5);
  }

  TEST_CASE("norm gradients sum over many rows in order") {
    const int64_t rows = 1000;
    const Tensor x = floats({-1, 1}, {1, 2});
    const Tensor many = expand(x, {rows, 2});
    const Tensor weight = leaf(ones({2})), bias = leaf(zeros({2}));
    layer_norm(many, weight, bias, 0.0).backward(full({rows, 2}, 0.5));
    check_near(weight.grad(), {-500, 500}, 1e-2);
    check_near(bias.grad(), {500, 500}, 1e-2);
    const Tensor gain = leaf(ones({2}));
    rms_norm(many, gain, 0.0).backward(full({rows, 2}, 0.25));
    check_near(gain.grad(), {-250, 250}, 1e-2);
  }

  TEST_CASE("norms of 16-bit numbers with f32 parameters") {
    const Tensor x = leaf(to(floats({1, 2, -1, 0.5}, {1, 4}), bf16));
    const Tensor weight = leaf(floats({1, 0.5, 2, -1}, {4})), bias = leaf(zeros({4}));
    const Tensor y = layer_norm(x, weight, bias);
    CHECK(y.dtype() == bf16);
    check_near(y, {0.3464087, 0.6350826, -3.0022089, 0.1154696}, 8e-3);
    y.backward(to(floats({0.1, -0.2, 0.3, 0.4}, {1, 4}), bf16));
    CHECK(x.grad().dtype() == bf16);
    CHECK(weight.grad().dtype() == f32);
    check_near(weight.grad(), {0.0346409, -0.2540330, -0.4503313, -0.0461878}, 2e-3);
  }

  TEST_CASE("norms of strided and empty tensors") {
    const Tensor x = randn({5, 7}, f32, RandomKey{1}), g = randn({5, 7}, f32, RandomKey{2});
    const Tensor weight = randn({7}, f32, RandomKey{3});
    const Tensor plain = leaf(clone(x)), strided = leaf(column_major(x));
    const Tensor y = layer_norm(plain, weight, {}), z = layer_norm(strided, weight, {});
    CHECK(same_bits(y, z));
    y.backward(g);
    z.backward(column_major(g));
    CHECK(plain.grad().to_vector<float>() == strided.grad().to_vector<float>());
    CHECK(layer_norm(zeros({0, 3}), ones({3}), zeros({3})).shape() == Shape{0, 3});
    CHECK(rms_norm(zeros({3, 0}), ones({0})).shape() == Shape{3, 0});
    const Tensor unused = leaf(ones({3}));
    layer_norm(zeros({0, 3}), unused, {}).backward(zeros({0, 3}));
    check_near(unused.grad(), {0, 0, 0}, 0);
  }

  // ---- dropout

  TEST_CASE("dropout drops exactly what the random bits say") {
    manual_seed(42);
    const Tensor x = leaf(ones({100000}));
    const Tensor y = dropout(x, 0.1);
    int64_t dropped = 0;
    bool scaled = true;
    for (const float value : y.to_vector<float>()) {
      dropped += value == 0.0f;
      scaled = scaled && (value == 0.0f || value == static_cast<float>(1 / 0.9));
    }
    CHECK(dropped == 9872);
    CHECK(scaled);
    y.backward(ones({100000}));
    CHECK(same_bits(x.grad(), y));  // the same mask, the same scale
    manual_seed(42);
    CHECK(same_bits(dropout(x.detach(), 0.1), y));
    CHECK_FALSE(same_bits(dropout(x.detach(), 0.1), y));  // the next draw
  }

  TEST_CASE("dropout drops an element when its number of the draw is below the threshold") {
    const RandomKey key{.seed = 0x123456789ABCDEF, .position = 0x8765FEDCBA98};
    default_generator().set_state({key.seed, key.position});
    const std::vector<float> y = dropout(ones({3000}), 0.3).to_vector<float>();
    for (uint64_t i = 0; i < y.size(); ++i)
      REQUIRE((y[i] == 0) == (key.bits(i) < drop_threshold(0.3)));
    CHECK(default_generator().state() == Generator::State{key.seed, key.position + 1});
  }

  TEST_CASE("dropout keeps or drops everything") {
    const Tensor x = leaf(floats({1, kNan, kInf}, {3}));
    const auto state = default_generator().state();
    CHECK(dropout(x, 0.5, false).is_same(x));
    CHECK(dropout(x, 0.0).is_same(x));
    CHECK(default_generator().state() == state);
    const Tensor y = dropout(x, 1.0);
    check_near(y, {0, 0, 0}, 0);
    y.backward(ones({3}));
    check_near(x.grad(), {0, 0, 0}, 0);
    CHECK(dropout(zeros({0, 2}), 0.5).shape() == Shape{0, 2});
  }

  TEST_CASE("dropout of any layout and dtype uses the element's logical position") {
    const Tensor x = floats({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, {3, 4});
    const auto drop = [](const Tensor& input) {
      manual_seed(3);
      return dropout(input, 0.5);
    };
    const Tensor y = drop(x);
    CHECK(same_bits(drop(column_major(x)), y));
    CHECK(drop(to(x, bf16)).to_vector<float>() == y.to_vector<float>());  // doubled: exact
    CHECK(drop(to(x, f64)).to_vector<float>() == y.to_vector<float>());
    const Tensor poisoned = drop(full({64}, kNan));
    int64_t clean = 0;
    for (const float value : poisoned.to_vector<float>()) clean += value == 0.0f;
    CHECK(clean > 16);  // a dropped NaN is gone
    CHECK(clean < 48);
  }

  // ---- embedding

  TEST_CASE("embedding and its gradient") {
    Tensor weight = leaf(floats({0, 1, 10, 11, 20, 21, 30, 31}, {4, 2}));
    const Tensor indices = Tensor::from<int64_t>({3, 1, 3, 0}, {2, 2});
    const Tensor y = embedding(indices, weight);
    CHECK(y.shape() == Shape{2, 2, 2});
    CHECK(y.to_vector<double>() == Values{30, 31, 10, 11, 30, 31, 0, 1});
    y.backward(floats({1, 2, 3, 4, 5, 6, 7, 8}, {2, 2, 2}));
    CHECK(weight.grad().to_vector<double>() == Values{7, 8, 3, 4, 0, 0, 6, 8});
    weight.set_grad({});
    embedding(to(indices, i32), weight, 3).backward(floats({1, 2, 3, 4, 5, 6, 7, 8}, {2, 2, 2}));
    CHECK(weight.grad().to_vector<double>() == Values{7, 8, 3, 4, 0, 0, 0, 0});
  }

  TEST_CASE("embedding of any layout, of nothing, of 16-bit rows") {
    const Tensor weight = floats({1, 2, 3, 4, 5, 6}, {3, 2});
    const Tensor indices = Tensor::from<int64_t>({2, 0, 1, 1}, {2, 2});
    CHECK(embedding(transposed(indices), column_major(weight)).to_vector<double>() ==
          Values{5, 6, 3, 4, 1, 2, 3, 4});
    CHECK(embedding(zeros({0, 3}, i64), weight).shape() == Shape{0, 3, 2});
    CHECK(embedding(Tensor::from<int64_t>({1}, {}), weight).to_vector<double>() == Values{3, 4});
    // 1000 steps of 1/256 on 1 would be lost one by one in bf16; the row is summed in float.
    const Tensor half = leaf(zeros({2, 1}, bf16));
    embedding(zeros({1001}, i64), half).backward(full({1001, 1}, 0.00390625, bf16));
    check_near(half.grad(), {3.91, 0}, 0.01);
  }

  // ---- rotary_embedding

  TEST_CASE("rotary_embedding turns pairs of channels") {
    const Tensor x = floats({1, 2, 3, 4, 1, 2, 3, 4}, {1, 1, 2, 4});
    const Tensor y = rotary_embedding(x);
    check_near(y, {1, 2, 3, 4, -1.9841106, 1.9599007, 2.4623779, 4.0197998}, 1e-6);
    const Tensor z = rotary_embedding(x, 10000.0, 0, true);
    check_near(z, {1, 2, 3, 4, -1.1426396, 1.9220756, 2.9598507, 4.0297995}, 1e-6);
    const Tensor shifted = rotary_embedding(floats({1, 2, 3, 4}, {1, 1, 1, 4}), 10000.0, 1);
    check_near(shifted, {-1.9841106, 1.9599007, 2.4623779, 4.0197998}, 1e-6);
  }

  TEST_CASE("rotary_embedding's gradient turns back") {
    for (const bool interleaved : {false, true}) {
      const Tensor x = leaf(randn({2, 3, 5, 8}, f64, RandomKey{4}));
      const Tensor y = rotary_embedding(x, 500.0, 7, interleaved);
      y.backward(y.detach());
      check_near(x.grad(), x.to_vector<double>(), 1e-14);
    }
  }

  TEST_CASE("rotary_embedding of far positions, of strided and empty tensors") {
    // Position 100000 of the first pair turns by 1e5 radians: cos -0.9993608, sin 0.0357488.
    const Tensor far = rotary_embedding(floats({1, 0}, {1, 1, 1, 2}), 10000.0, 100000);
    check_near(far, {-0.9993608, 0.0357488}, 1e-6);
    // Unit vectors of 100 positions from 5: the second of four channels of theta 16 turns by t / 4.
    Values ones_and_zeros, expected;
    for (int t = 5; t < 105; ++t) {
      ones_and_zeros.insert(ones_and_zeros.end(), {0, 1, 0, 0});
      expected.insert(expected.end(), {0, std::cos(0.25 * t), 0, std::sin(0.25 * t)});
    }
    check_near(rotary_embedding(Tensor::from(ones_and_zeros, {100, 4}), 16.0, 5), expected, 1e-14);
    const Tensor x = randn({3, 4}, f32, RandomKey{5});
    CHECK(same_bits(rotary_embedding(column_major(x)), rotary_embedding(x)));
    CHECK(rotary_embedding(zeros({1, 2, 0, 4})).shape() == Shape{1, 2, 0, 4});
    CHECK(rotary_embedding(zeros({2, 0})).shape() == Shape{2, 0});
    check_near(rotary_embedding(to(floats({1, 2, 3, 4}, {1, 4}), bf16)), {1, 2, 3, 4}, 0);
  }

  // ---- all of them

  TEST_CASE("the same bits on any number of threads") {
    const Tensor x = leaf(randn({3, 200, 67}, f32, RandomKey{6}));
    const Tensor weight = leaf(randn({67}, f32, RandomKey{7}));
    const Tensor bias = leaf(randn({67}, f32, RandomKey{8}));
    const Tensor table = leaf(randn({40, 33}, f32, RandomKey{9}));
    const Tensor indices = randint(0, 40, {500}, i64, RandomKey{10});
    check_thread_independence([&] { return softmax(x); }, {x});
    check_thread_independence([&] { return log_softmax(x, 1); }, {x});
    check_thread_independence([&] { return layer_norm(x, weight, bias); }, {x, weight, bias});
    check_thread_independence([&] { return rms_norm(x, weight); }, {x, weight});
    check_thread_independence([&] { return embedding(indices, table); }, {table});
    check_thread_independence(
        [&] {
          manual_seed(11);
          return dropout(x, 0.3);
        },
        {x});
    const Tensor heads = leaf(randn({4, 300, 16}, f32, RandomKey{12}));
    check_thread_independence([&] { return rotary_embedding(heads); }, {heads});
  }

  TEST_CASE("errors") {
    const Tensor x = zeros({2, 3}), integers = zeros({2, 3}, i64);
    CHECK_THROWS_AS(layer_norm(x, ones({2}), {}), Error);
    CHECK_THROWS_AS(layer_norm(x, ones({3}), ones({1, 3})), Error);
    CHECK_THROWS_AS(layer_norm(x, ones({3}), ones({3}, f64)), Error);
    CHECK_THROWS_AS(layer_norm(x, ones({3}, i64), {}), Error);
    CHECK_THROWS_AS(layer_norm(x, {}, {}, -1e-5), Error);
    CHECK_THROWS_AS(layer_norm(integers, {}, {}), Error);
    CHECK_THROWS_AS(rms_norm(x, ones({4})), Error);
    CHECK_THROWS_AS(rms_norm(zeros({}), {}), Error);
    CHECK_THROWS_AS(dropout(x, -0.1), Error);
    CHECK_THROWS_AS(dropout(x, 1.1), Error);
    CHECK_THROWS_AS(dropout(x, kNan), Error);
    CHECK_THROWS_AS(dropout(integers, 0.5), Error);
    const Tensor indices = Tensor::from<int64_t>({0, 1}, {2});
    CHECK_THROWS_AS(embedding(Tensor::from<int64_t>({0, 2}, {2}), x), Error);
    CHECK_THROWS_AS(embedding(Tensor::from<int64_t>({-1}, {1}), x), Error);
    CHECK_THROWS_AS(embedding(x, x), Error);
    CHECK_THROWS_AS(embedding(indices, zeros({3})), Error);
    CHECK_THROWS_AS(embedding(indices, integers), Error);
    CHECK_THROWS_AS(embedding(indices, x, 2), Error);
    CHECK_THROWS_AS(rotary_embedding(zeros({1, 1, 2, 3})), Error);
    CHECK_THROWS_AS(rotary_embedding(zeros({4})), Error);
    CHECK_THROWS_AS(rotary_embedding(zeros({2, 4}), 0.0), Error);
    CHECK_THROWS_AS(rotary_embedding(zeros({2, 4}, i32)), Error);
    CHECK_THROWS_WITH_AS(
        embedding(Tensor::from<int64_t>({7}, {1}), x),
        "[embedding] index out of range; got 7 for an axis of size 2; indices must "
        "be in [0, 2)",
        Error);
  }
}
