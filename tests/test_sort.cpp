// sort, argsort, topk: order, stability, NaN, layouts, gradients, errors.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include <tendril/autograd/functions.h>
#include <tendril/core/ops/sort.h>

#include "reduce_inputs.h"

using namespace tendril;
using namespace tendril::testing;

namespace {
using Positions = std::vector<int64_t>;
Positions positions(const Tensor& x) { return x.to_vector<int64_t>(); }
}  // namespace

TEST_SUITE("sort") {
  TEST_CASE("sort along either axis, in both directions") {
    const Tensor x = Tensor::from<float>({3, 1, 2, -1, 5, 0}, {2, 3});
    const ops::Sorted rows = ops::sort(x);
    CHECK(rows.values.to_vector<double>() == Values{1, 2, 3, -1, 0, 5});
    CHECK(positions(rows.indices) == Positions{1, 2, 0, 0, 2, 1});
    CHECK(rows.indices.dtype() == i64);
    CHECK(ops::sort(x, -1, true).values.to_vector<double>() == Values{3, 2, 1, 5, 0, -1});
    const ops::Sorted columns = ops::sort(x, 0);
    CHECK(columns.values.to_vector<double>() == Values{-1, 1, 0, 3, 5, 2});
    CHECK(positions(columns.indices) == Positions{1, 0, 1, 0, 1, 0});
    CHECK(ops::sort(transposed(x), 0).values.to_vector<double>() == Values{1, -1, 2, 0, 3, 5});
    CHECK(positions(ops::argsort(x, 1, true)) == Positions{0, 2, 1, 1, 2, 0});
  }

  TEST_CASE("equal elements keep their order in both directions; -0 equals 0") {
    const Tensor x = Tensor::from<float>({2, 0.0f, 1, -0.0f, 2, 0.0f}, {6});
    CHECK(positions(ops::argsort(x)) == Positions{1, 3, 5, 2, 0, 4});
    CHECK(positions(ops::argsort(x, 0, true)) == Positions{0, 4, 2, 1, 3, 5});
    CHECK(std::signbit(ops::sort(x).values.to_vector<double>()[1]));  // values are not changed
  }

  TEST_CASE("NaN is the largest number") {
    const float nan = static_cast<float>(kNan), inf = static_cast<float>(kInf);
    const Tensor x = Tensor::from<float>({nan, 1, inf, -nan, -inf}, {5});
    CHECK(positions(ops::argsort(x)) == Positions{4, 1, 2, 0, 3});
    CHECK(positions(ops::argsort(x, 0, true)) == Positions{0, 3, 2, 1, 4});
    CHECK(positions(ops::topk(x, 1).indices) == Positions{0});
    CHECK(positions(ops::topk(x, 2, 0, false).indices) == Positions{4, 1});
  }

  TEST_CASE("every dtype sorts by value") {
    CHECK(ops::sort(Tensor::from<int32_t>({5, -3, 0, -2000000000}, {4}))
              .values.to_vector<int64_t>() == Positions{-2000000000, -3, 0, 5});
    CHECK(ops::sort(Tensor::from<int64_t>({int64_t{1} << 40, -(int64_t{1} << 41), 7}, {3}))
              .values.to_vector<int64_t>() == Positions{-(int64_t{1} << 41), 7, int64_t{1} << 40});
    CHECK(ops::sort(Tensor::from<uint8_t>({200, 3, 100}, {3})).values.to_vector<int64_t>() ==
          Positions{3, 100, 200});
    CHECK(positions(ops::argsort(Tensor::from<bool>({true, false, true, false}, {4}))) ==
          Positions{1, 3, 0, 2});
    CHECK(ops::sort(Tensor::from<double>({1.5, -1e300, 1e-300}, {3})).values.to_vector<double>() ==
          Values{-1e300, 1e-300, 1.5});
    CHECK(ops::sort(Tensor::from<bfloat16>({bfloat16(2), bfloat16(-1)}, {2}))
              .values.to_vector<double>() == Values{-1, 2});
    CHECK(ops::sort(Tensor::from<float16>({float16(2), float16(-1)}, {2}))
              .values.to_vector<double>() == Values{-1, 2});
  }

  TEST_CASE("long lines, with many equal elements, agree with std::stable_sort") {
    for (int64_t n : {100, 511, 5000}) {
      Tensor x = normal({n}, f64);
      for (double& value : x.span<double>())
        value = std::round(value * 20) * (value > 1 ? 1e100 : 1e-3);
      const Values values = x.to_vector<double>();
      Positions expected(values.size());
      std::iota(expected.begin(), expected.end(), 0);
      std::stable_sort(expected.begin(), expected.end(), [&](int64_t a, int64_t b) {
        return values[static_cast<size_t>(a)] < values[static_cast<size_t>(b)];
      });
      CHECK(positions(ops::argsort(x)) == expected);
      for (int64_t k : {int64_t{3}, n / 2, n}) {
        const Positions smallest = positions(ops::topk(x, k, 0, false).indices);
        CHECK(std::equal(smallest.begin(), smallest.end(), expected.begin()));
      }
    }
  }

  TEST_CASE("topk") {
    const Tensor x = Tensor::from<float>({3, 1, 2, 3, 5, 0, 5, 5}, {2, 4});
    const ops::Sorted top = ops::topk(x, 2);
    CHECK(top.values.shape() == Shape{2, 2});
    CHECK(top.values.to_vector<double>() == Values{3, 3, 5, 5});
    CHECK(positions(top.indices) == Positions{0, 3, 0, 2});
    CHECK(ops::topk(x, 1, 0).values.to_vector<double>() == Values{5, 1, 5, 5});
    CHECK(ops::topk(x, 3, 1, false).values.to_vector<double>() == Values{1, 2, 3, 0, 5, 5});
    CHECK(ops::topk(x, 0).values.shape() == Shape{2, 0});
    CHECK_THROWS_AS(ops::topk(x, 5), Error);
    CHECK_THROWS_AS(ops::topk(x, -1), Error);
    CHECK_THROWS_AS(ops::topk(x, 1, 2), Error);
  }

  TEST_CASE("empty lines, broadcast tensors and numbers without axes") {
    CHECK(ops::sort(Tensor::empty({3, 0})).values.shape() == Shape{3, 0});
    CHECK(ops::sort(Tensor::empty({0, 3})).indices.shape() == Shape{0, 3});
    CHECK(ops::sort(Tensor::from<float>({4}, {})).values.item<double>() == 4);
    CHECK(ops::argsort(Tensor::from<float>({4}, {})).item<int64_t>() == 0);
    const Tensor x = Tensor::from<float>({2, 1}, {2});
    const Tensor repeated = Tensor::view(x.storage(), 0, {2, 3}, {1, 0}, f32);
    CHECK(ops::sort(repeated, 0).values.to_vector<double>() == Values{1, 1, 1, 2, 2, 2});
    CHECK(positions(ops::argsort(repeated, 1)) == Positions{0, 1, 2, 0, 1, 2});
  }

  TEST_CASE("gradients go back to where the values came from") {
    Tensor x = Tensor::from<float>({3, 1, 2, -1, 5, 0}, {2, 3});
    x.requires_grad_();
    const SortResult sorted = sort(x);
    CHECK_FALSE(sorted.indices.requires_grad());
    sorted.values.backward(Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3}));
    CHECK(x.grad().to_vector<double>() == Values{3, 1, 2, 4, 6, 5});
    x.set_grad({});
    topk(x, 1, 0).values.backward(Tensor::from<float>({1, 2, 3}, {1, 3}));
    CHECK(x.grad().to_vector<double>() == Values{1, 0, 3, 0, 2, 0});
    CHECK_THROWS_WITH_AS(argsort(x).backward(Tensor::from<int64_t>({1, 1, 1, 1, 1, 1}, {2, 3})),
                         doctest::Contains("argsort"), Error);
  }

  TEST_CASE("a backward pass with bad indices or shapes is an error") {
    const Tensor g = Tensor::from<float>({1, 2}, {2});
    const auto backward = [&](const Tensor& indices, const Shape& shape) {
      return ops::sort_backward(g, indices, shape, 0);
    };
    CHECK(backward(Tensor::from<int64_t>({2, 0}, {2}), {3}).to_vector<double>() == Values{2, 0, 1});
    CHECK_THROWS_AS(backward(Tensor::from<int64_t>({3, 0}, {2}), {3}), Error);
    CHECK_THROWS_AS(backward(Tensor::from<int64_t>({-1, 0}, {2}), {3}), Error);
    CHECK_THROWS_AS(backward(Tensor::from<int32_t>({1, 0}, {2}), {3}), Error);
    CHECK_THROWS_AS(backward(Tensor::from<int64_t>({1}, {1}), {3}), Error);
    CHECK_THROWS_AS(backward(Tensor::from<int64_t>({1, 0}, {2}), {3, 4}), Error);
  }

  TEST_CASE("sorts do not depend on the number of threads") {
    const Tensor x = normal({50, 700});
    const auto results =
        on_several_threads([&] { return ops::sort(x, 1).values.to_vector<float>(); });
    CHECK(results[0] == results[1]);
    CHECK(results[0] == results[2]);
  }
}
