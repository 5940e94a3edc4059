// Sums: the loops under all reductions, on every layout.
#include <doctest/doctest.h>

#include <cmath>

#include <tendril/core/ops/reduce.h>

#include "reduce_inputs.h"

using namespace tendril;
using namespace tendril::testing;

TEST_SUITE("reduce") {
  TEST_CASE("sum over each choice of axes") {
    const Tensor x = two_by_three();
    CHECK(ops::sum(x).shape() == Shape{});
    CHECK(ops::sum(x).item<double>() == 21);
    CHECK(ops::sum(x, {0}).to_vector<double>() == Values{5, 7, 9});
    CHECK(ops::sum(x, {1}).to_vector<double>() == Values{6, 15});
    CHECK(ops::sum(x, {-1}).to_vector<double>() == Values{6, 15});
    CHECK(ops::sum(x, {-2, 1}).item<double>() == 21);
    CHECK(ops::sum(x, {0}, true).shape() == Shape{1, 3});
    CHECK(ops::sum(x, {1}, true).shape() == Shape{2, 1});
    CHECK(ops::sum(x, {}, true).shape() == Shape{1, 1});
    CHECK(ops::sum(Tensor::from<float>({7}, {})).item<double>() == 7);
  }

  TEST_CASE("sum over any axes of a rank-4 tensor agrees with adding up the elements") {
    const Tensor x = counting({3, 4, 5, 17});
    for (int mask = 1; mask < 16; ++mask) {
      Shape axes;
      for (int axis = 0; axis < 4; ++axis)
        if (mask >> axis & 1) axes.push_back(axis);
      const Tensor y = ops::sum(x, axes, true);
      Values expected(static_cast<size_t>(y.numel()), 0.0);
      for (int64_t i = 0; i < x.numel(); ++i) {
        const int64_t index[] = {i / 340, i / 85 % 4, i / 17 % 5, i % 17};
        int64_t to = 0;
        for (int axis = 0; axis < 4; ++axis)
          to = to * y.size(axis) + (y.size(axis) == 1 ? 0 : index[axis]);
        expected[static_cast<size_t>(to)] += static_cast<double>(i);
      }
      CHECK(y.to_vector<double>() == expected);
    }
  }

  TEST_CASE("sum of strided, reversed and broadcast tensors") {
    const Tensor x = two_by_three();
    CHECK(ops::sum(transposed(x), {0}).to_vector<double>() == Values{6, 15});
    CHECK(ops::sum(transposed(x), {1}).to_vector<double>() == Values{5, 7, 9});
    CHECK(ops::sum(transposed(x)).item<double>() == 21);
    const Tensor backwards = Tensor::view(x.storage(), 5, {2, 3}, {-3, -1}, f32);
    CHECK(ops::sum(backwards, {0}).to_vector<double>() == Values{9, 7, 5});
    CHECK(ops::sum(backwards, {1}).to_vector<double>() == Values{15, 6});
    const Tensor every_second = Tensor::view(x.storage(), 0, {3}, {2}, f32);
    CHECK(ops::sum(every_second).item<double>() == 9);
    const Tensor repeated = Tensor::view(x.storage(), 0, {4, 3}, {0, 1}, f32);
    CHECK(ops::sum(repeated, {0}).to_vector<double>() == Values{4, 8, 12});
    CHECK(ops::sum(repeated, {1}).to_vector<double>() == Values{6, 6, 6, 6});
    const Tensor one_value = Tensor::view(x.storage(), 2, {40, 50}, {0, 0}, f32);
    CHECK(ops::sum(one_value).item<double>() == 6000);
  }

  TEST_CASE("sum of nothing is 0") {
    const Tensor x = Tensor::empty({0, 3});
    CHECK(ops::sum(x).item<double>() == 0);
    CHECK(ops::sum(x, {0}).to_vector<double>() == Values{0, 0, 0});
    CHECK(ops::sum(x, {1}).shape() == Shape{0});
    CHECK(ops::sum(Tensor::empty({2, 0, 3}), {1}).to_vector<double>() == Values(6, 0.0));
  }

  TEST_CASE("sums of integers and bools are i64 and do not wrap at the input's width") {
    const Tensor large = Tensor::from<int32_t>({2000000000, 2000000000}, {2});
    CHECK(ops::sum(large).dtype() == i64);
    CHECK(ops::sum(large).item<int64_t>() == 4000000000);
    CHECK(ops::sum(Tensor::from<uint8_t>({200, 100, 3, 4}, {2, 2}), {0}).to_vector<int64_t>() ==
          std::vector<int64_t>{203, 104});
    CHECK(ops::sum(Tensor::from<bool>({true, false, true}, {3})).item<int64_t>() == 2);
    CHECK(ops::sum(Tensor::from<int64_t>({-5, 3}, {2})).item<int64_t>() == -2);
  }

  TEST_CASE("16-bit sums accumulate in float and round once") {
    const Tensor x = Tensor::from(std::vector<bfloat16>(1000, bfloat16(1.0f)), {1000});
    CHECK(ops::sum(x).dtype() == bf16);
    CHECK(ops::sum(x).item<double>() == 1000);  // adding in bf16 would stop at 256
    const Tensor h = Tensor::from(std::vector<float16>(5000, float16(1.0f)), {5000});
    CHECK(ops::sum(h).item<double>() == 5000);  // adding in f16 would stop at 2048
    const Tensor columns = Tensor::view(x.storage(), 0, {50, 20}, {20, 1}, bf16);
    CHECK(ops::sum(columns, {0}).to_vector<double>() == Values(20, 50.0));
  }

  TEST_CASE("f16 values of every kind are read correctly") {
    std::vector<float16> values;
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      float16 h;
      h.bits = static_cast<uint16_t>(bits);
      values.push_back(h);
    }
    // One column per value: vector lanes; one row each would take the scalar path.
    const Tensor x = Tensor::from(values, {1, 65536});
    const Tensor y = ops::sum(x, {0});
    int64_t wrong = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      const float expected = values[i], got = y.data<float16>()[i];
      wrong += std::isnan(expected) ? !std::isnan(got) : expected != got;
    }
    CHECK(wrong == 0);
  }

  TEST_CASE("a sum of ten million floats is accurate to 1e-6") {
    Tensor x = Tensor::empty({10000000});
    for (float& value : x.span<float>()) value = 0.1f;
    const double exact = 1e7 * static_cast<double>(0.1f);
    CHECK(std::abs(ops::sum(x).item<double>() / exact - 1) < 1e-6);
    const Tensor columns = Tensor::view(x.storage(), 0, {1000000, 10}, {10, 1}, f32);
    for (double column : ops::sum(columns, {0}).to_vector<double>())
      CHECK(std::abs(column * 10 / exact - 1) < 1e-6);
  }

  TEST_CASE("sums have the same bits on 1, 2 and 4 threads") {
    const Tensor x = normal({300, 1111});
    const auto results = on_several_threads([&] {
      std::vector<float> bits = ops::sum(x, {0}).to_vector<float>();
      for (const Tensor& y : {ops::sum(x, {1}), ops::sum(x), ops::sum(transposed(x), {0})})
        for (float value : y.to_vector<float>()) bits.push_back(value);
      return bits;
    });
    CHECK(results[0] == results[1]);
    CHECK(results[0] == results[2]);
  }

  TEST_CASE("sum_to undoes broadcasting") {
    const Tensor g = two_by_three();
    CHECK(ops::sum_to(g, {2, 3}).is_same(g));
    CHECK(ops::sum_to(g, {3}).to_vector<double>() == Values{5, 7, 9});
    CHECK(ops::sum_to(g, {1, 3}).shape() == Shape{1, 3});
    CHECK(ops::sum_to(g, {2, 1}).to_vector<double>() == Values{6, 15});
    CHECK(ops::sum_to(g, {1}).to_vector<double>() == Values{21});
    CHECK(ops::sum_to(g, {}).shape() == Shape{});
    CHECK(ops::sum_to(g, {}).item<double>() == 21);
    CHECK(ops::sum_to(Tensor::from<float>({1, 2, 3}, {1, 3}), {3}).to_vector<double>() ==
          Values{1, 2, 3});
    CHECK(ops::sum_to(counting({2, 3, 4}), {3, 1}).to_vector<double>() == Values{60, 92, 124});
    CHECK(ops::sum_to(Tensor::empty({0, 3}), {1, 3}).to_vector<double>() == Values{0, 0, 0});
    CHECK_THROWS_AS(ops::sum_to(g, {2}), Error);
    CHECK_THROWS_AS(ops::sum_to(g, {4, 2, 3}), Error);
  }

  TEST_CASE("sum_backward spreads the gradient over the reduced axes") {
    const Tensor g = Tensor::from<float>({10, 20}, {2});
    const Tensor dx = ops::sum_backward(g, {2, 3}, {1}, false);
    CHECK(dx.shape() == Shape{2, 3});
    CHECK(dx.to_vector<double>() == Values{10, 10, 10, 20, 20, 20});
    const Tensor kept = Tensor::view(g.storage(), 0, {1, 2}, {2, 1}, f32);
    CHECK(ops::sum_backward(kept, {3, 2}, {0}, true).to_vector<double>() ==
          Values{10, 20, 10, 20, 10, 20});
    CHECK_THROWS_AS(ops::sum_backward(g, {2, 3}, {0}, false), Error);
  }

  TEST_CASE("wrong axes are errors") {
    const Tensor x = two_by_three();
    CHECK_THROWS_AS(ops::sum(x, {2}), Error);
    CHECK_THROWS_AS(ops::sum(x, {-3}), Error);
    CHECK_THROWS_AS(ops::sum(x, {0, -2}), Error);
    CHECK_THROWS_AS(ops::sum(Tensor{}), Error);
  }
}
