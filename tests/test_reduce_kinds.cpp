// Every reduction but sum: hand-checked values, NaN and infinity, empty tensors, gradients, errors.
#include <doctest/doctest.h>

#include <cmath>

#include <tendril/autograd/functions.h>
#include <tendril/core/ops/reduce.h>

#include "reduce_inputs.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

Tensor row(const std::vector<float>& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())});
}

void check_near(const Tensor& x, const Values& expected, double tolerance = 1e-6) {
  const Values values = x.to_vector<double>();
  REQUIRE(values.size() == expected.size());
  for (size_t i = 0; i < values.size(); ++i)
    CHECK(values[i] == doctest::Approx(expected[i]).epsilon(tolerance));
}

Values gradient(const Tensor& x) { return x.grad().to_vector<double>(); }

}  // namespace

TEST_SUITE("reduce") {
  TEST_CASE("mean") {
    const Tensor x = two_by_three();
    CHECK(ops::mean(x).item<double>() == 3.5);
    CHECK(ops::mean(x, {0}).to_vector<double>() == Values{2.5, 3.5, 4.5});
    CHECK(ops::mean(x, {1}, true).to_vector<double>() == Values{2, 5});
    CHECK(ops::mean(two_by_three(i32)).dtype() == f32);
    CHECK(ops::mean(two_by_three(i32)).item<double>() == 3.5);
    CHECK(ops::mean(Tensor::from<bool>({true, false, false, true}, {4})).item<double>() == 0.5);
    CHECK(std::isnan(ops::mean(Tensor::empty({0})).item<double>()));
    CHECK(ops::mean_backward(Tensor::from<float>({3, 6}, {2}), {2, 3}, {1}, false)
              .to_vector<double>() == Values{1, 1, 1, 2, 2, 2});
  }

  TEST_CASE("var and std") {
    const Tensor x = Tensor::from<float>({1, 2, 3, 4, 2, 2, 2, 2}, {2, 4});
    check_near(ops::var(x, {1}), {5.0 / 3, 0});
    check_near(ops::var(x, {1}, false, 0), {1.25, 0});
    check_near(ops::std(x, {1}, false, 0), {std::sqrt(1.25), 0});
    check_near(ops::var(x, {0}), {0.5, 0, 0.5, 2});
    check_near(ops::var(transposed(x), {1}), {0.5, 0, 0.5, 2});
    CHECK(std::isnan(ops::var(row({5})).item<double>()));  // 0 / 0
    CHECK(ops::var(row({5}), {}, false, 0).item<double>() == 0);
    CHECK(std::isnan(ops::var(Tensor::empty({0})).item<double>()));
    CHECK_THROWS_AS(ops::var(two_by_three(i32)), Error);
  }

  TEST_CASE("var of values far from 0 keeps its digits") {
    Tensor x = Tensor::empty({1000});
    for (int64_t i = 0; i < 1000; ++i) x.data<float>()[i] = i % 2 ? 10000.5f : 9999.5f;
    check_near(ops::var(x, {}, false, 0), {0.25});
    x = normal({100000}, f64);
    double sum = 0, squares = 0;  // a large offset in f64, against the same numbers without it
    for (double& value : x.span<double>()) sum += value, squares += value * value, value += 1e6;
    check_near(ops::var(x, {}, false, 0), {squares / 1e5 - sum * sum / 1e10}, 1e-7);
  }

  TEST_CASE("norm") {
    const Tensor x = Tensor::from<float>({3, -4, 0, 0, 1, -2}, {3, 2});
    check_near(ops::norm(x, 2, {1}), {5, 0, std::sqrt(5.0)});
    check_near(ops::norm(x, 1, {1}), {7, 0, 3});
    check_near(ops::norm(x, kInf, {1}), {4, 0, 2});
    check_near(ops::norm(x, 3, {1}), {std::cbrt(91.0), 0, std::cbrt(9.0)});
    check_near(ops::norm(x, 1, {0}), {4, 6});
    check_near(ops::norm(x, kInf, {0}), {3, 4});
    CHECK(ops::norm(Tensor::empty({0})).item<double>() == 0);
    CHECK(ops::norm(row({-static_cast<float>(kInf), 1}), kInf).item<double>() == kInf);
    CHECK(std::isnan(ops::norm(row({1, static_cast<float>(kNan)}), kInf).item<double>()));
    CHECK_THROWS_AS(ops::norm(x, 0), Error);
    CHECK_THROWS_AS(ops::norm(x, -1), Error);
    CHECK_THROWS_AS(ops::norm(x, kNan), Error);
    CHECK_THROWS_AS(ops::norm(two_by_three(i32)), Error);
  }

  TEST_CASE("the gradient of a norm at 0 is 0") {
    for (double p : {1.0, 1.5, 2.0, 3.0, 0.5, kInf}) {
      Tensor x = Tensor::from<double>({0, 0, 0}, {3});
      x.requires_grad_();
      norm(x, p).backward();
      CHECK(gradient(x) == Values{0, 0, 0});
    }
    Tensor x = Tensor::from<double>({3, 0, -4}, {3});
    x.requires_grad_();
    norm(x).backward();
    check_near(x.grad(), {0.6, 0, -0.8});
  }

  TEST_CASE("the largest |x| that comes first gets the gradient of the infinity norm") {
    Tensor x = Tensor::from<float>({1, -3, 3}, {3});
    x.requires_grad_();
    norm(x, kInf).backward();
    CHECK(gradient(x) == Values{0, -1, 0});
  }

  TEST_CASE("logsumexp") {
    check_near(ops::logsumexp(row({0, 0, 0, 0})), {std::log(4.0)});
    check_near(ops::logsumexp(row({1000, 1000})), {1000 + std::log(2.0)});
    check_near(ops::logsumexp(row({-1000, -1001})), {-1000 + std::log1p(std::exp(-1.0))});
    const float inf = static_cast<float>(kInf);
    CHECK(ops::logsumexp(row({-inf, -inf})).item<double>() == -kInf);
    CHECK(ops::logsumexp(row({-inf, 2})).item<double>() == 2);
    CHECK(ops::logsumexp(row({inf, 2})).item<double>() == kInf);
    CHECK(std::isnan(ops::logsumexp(row({static_cast<float>(kNan), inf})).item<double>()));
    CHECK(ops::logsumexp(Tensor::empty({2, 0}), {1}).to_vector<double>() == Values{-kInf, -kInf});
    check_near(ops::logsumexp(Tensor::from<double>({0, std::log(3.0), 0, 0}, {2, 2}), {0}),
               {std::log(2.0), std::log(4.0)}, 1e-14);
    // Long enough for several chunks, whose largest values differ.
    Tensor x = Tensor::empty({100000});
    for (int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] = static_cast<float>(i / 20000);
    double total = 0;
    for (int i = 0; i < 5; ++i) total += 20000 * std::exp(i);
    check_near(ops::logsumexp(x), {std::log(total)});
  }

  TEST_CASE("logsumexp's gradient is softmax; values of -inf get none") {
    Tensor x = Tensor::from<double>({0, std::log(3.0), -kInf, -kInf, -kInf, -kInf}, {2, 3});
    x.requires_grad_();
    logsumexp(x, {1}).backward(Tensor::from<double>({1, 1}, {2}));
    check_near(x.grad(), {0.25, 0.75, 0, 0, 0, 0});
  }

  TEST_CASE("prod") {
    CHECK(ops::prod(two_by_three()).item<double>() == 720);
    CHECK(ops::prod(two_by_three(), {0}).to_vector<double>() == Values{4, 10, 18});
    CHECK(ops::prod(two_by_three(), {1}, true).shape() == Shape{2, 1});
    CHECK(ops::prod(two_by_three(i32)).dtype() == i64);
    CHECK(ops::prod(two_by_three(i32), {1}).to_vector<int64_t>() == std::vector<int64_t>{6, 120});
    CHECK(ops::prod(Tensor::empty({0})).item<double>() == 1);
    CHECK(ops::prod(row({1, 2, 3, 4, 5, 6, 7, 8, 9})).item<double>() == 362880);
  }

  TEST_CASE("prod's gradient is correct with zeros") {
    Tensor x = Tensor::from<double>({2, 3, 4, 2, 0, 4, 0, 0, 4}, {3, 3});
    x.requires_grad_();
    prod(x, {1}).backward(Tensor::from<double>({1, 10, 1}, {3}));
    CHECK(gradient(x) == Values{12, 8, 6, 0, 80, 0, 0, 0, 0});
  }

  TEST_CASE("max and min") {
    const Tensor x = Tensor::from<float>({3, -1, 2, 0, 5, -7}, {2, 3});
    CHECK(ops::max(x).item<double>() == 5);
    CHECK(ops::min(x).item<double>() == -7);
    CHECK(ops::max(x, {0}).to_vector<double>() == Values{3, 5, 2});
    CHECK(ops::min(x, {1}, true).to_vector<double>() == Values{-1, -7});
    CHECK(ops::max(transposed(x), {0}).to_vector<double>() == Values{3, 5});
    CHECK(ops::max(two_by_three(i32)).item<int64_t>() == 6);
    CHECK(ops::max(two_by_three(i32)).dtype() == i32);
    CHECK(ops::min(Tensor::from<bool>({true, false, true, true}, {2, 2}), {0}).to_vector<bool>() ==
          std::vector<bool>{true, false});
    CHECK(ops::max(Tensor::from<uint8_t>({7, 200}, {2})).item<int64_t>() == 200);
    CHECK(ops::max(Tensor::from<bfloat16>({bfloat16(1), bfloat16(-2)}, {2})).item<double>() == 1);
    const float inf = static_cast<float>(kInf);
    CHECK(ops::max(row({-inf, -inf})).item<double>() == -kInf);
  }

  TEST_CASE("NaN wins over every number, in rows and columns of any length") {
    for (int64_t n : {1, 5, 64, 300}) {
      Tensor x = Tensor::empty({n, 40});
      for (float& value : x.span<float>()) value = static_cast<float>(kInf);
      x.data<float>()[(n / 2) * 40 + 7] = static_cast<float>(kNan);
      for (const Tensor& y : {ops::max(x), ops::min(x), ops::norm(x, kInf)})
        CHECK(std::isnan(y.item<double>()));
      const Values columns = ops::max(x, {0}).to_vector<double>(),
                   rows = ops::min(x, {1}).to_vector<double>();
      for (int64_t c = 0; c < 40; ++c)
        CHECK(std::isnan(columns[static_cast<size_t>(c)]) == (c == 7));
      for (int64_t r = 0; r < n; ++r)
        CHECK(std::isnan(rows[static_cast<size_t>(r)]) == (r == n / 2));
      CHECK(ops::argmax(x).item<int64_t>() == (n / 2) * 40 + 7);
      CHECK(ops::argmin(x, 1).to_vector<int64_t>()[static_cast<size_t>(n / 2)] == 7);
    }
  }

  TEST_CASE("the first of equal values gets the whole gradient") {
    Tensor x = Tensor::from<float>({1, 5, 5, 2, 2, 0}, {2, 3});
    x.requires_grad_();
    max(x, {1}).backward(Tensor::from<float>({10, 20}, {2}));
    CHECK(gradient(x) == Values{0, 10, 0, 20, 0, 0});
    x.set_grad({});
    min(x).backward();
    CHECK(gradient(x) == Values{0, 0, 0, 0, 0, 1});
    x.set_grad({});
    max(x).backward();  // first in row-major order
    CHECK(gradient(x) == Values{0, 1, 0, 0, 0, 0});
    const Tensor g = Tensor::from<float>({1, 2, 3}, {3});
    CHECK(ops::max_backward(g, transposed(x), {1}, false).to_vector<double>() ==
          Values{0, 1, 2, 0, 3, 0});
  }

  TEST_CASE("argmax and argmin give the first of equals") {
    const Tensor x = Tensor::from<float>({1, 5, 5, 2, 2, 0}, {2, 3});
    CHECK(ops::argmax(x).item<int64_t>() == 1);
    CHECK(ops::argmax(x).dtype() == i64);
    CHECK(ops::argmax(x, 1).to_vector<int64_t>() == std::vector<int64_t>{1, 0});
    CHECK(ops::argmin(x, 0).to_vector<int64_t>() == std::vector<int64_t>{0, 1, 1});
    CHECK(ops::argmax(x, -2, true).shape() == Shape{1, 3});
    CHECK(ops::argmin(x, {}, true).shape() == Shape{1, 1});
    CHECK(ops::argmax(transposed(x)).item<int64_t>() == 2);  // of the flattened (3, 2) view
    CHECK(ops::argmax(two_by_three(i32)).item<int64_t>() == 5);
    Tensor equal = Tensor::empty({100000});
    for (float& value : equal.span<float>()) value = 0;
    CHECK(ops::argmax(equal).item<int64_t>() == 0);
    equal.data<float>()[77777] = 1;
    CHECK(ops::argmax(equal).item<int64_t>() == 77777);
  }

  TEST_CASE("max, min and their positions need a value") {
    const Tensor x = Tensor::empty({0, 3});
    CHECK_THROWS_AS(ops::max(x), Error);
    CHECK_THROWS_AS(ops::min(x, {0}), Error);
    CHECK_THROWS_AS(ops::argmax(x), Error);
    CHECK_THROWS_AS(ops::argmin(x, 0), Error);
    CHECK(ops::max(x, {1}).shape() == Shape{0});
    CHECK(ops::argmax(x, 1).shape() == Shape{0});
    CHECK_THROWS_AS(ops::argmax(two_by_three(), 2), Error);
  }

  TEST_CASE("any and all") {
    const Tensor x = Tensor::from<float>({0, 1, 0, 0, static_cast<float>(kNan), 2}, {2, 3});
    CHECK(ops::any(x, {0}).to_vector<bool>() == std::vector<bool>{false, true, true});
    CHECK(ops::all(x, {0}).to_vector<bool>() == std::vector<bool>{false, true, false});
    CHECK(ops::any(x, {1}).to_vector<bool>() == std::vector<bool>{true, true});
    CHECK_FALSE(ops::all(x).item<bool>());
    CHECK(ops::any(x).dtype() == bool_);
    CHECK_FALSE(ops::any(Tensor::empty({0})).item<bool>());
    CHECK(ops::all(Tensor::empty({0})).item<bool>());
    CHECK(ops::all(two_by_three(i32)).item<bool>());
  }

  TEST_CASE("cumsum") {
    const Tensor x = two_by_three();
    CHECK(ops::cumsum(x, 1).to_vector<double>() == Values{1, 3, 6, 4, 9, 15});
    CHECK(ops::cumsum(x, 0).to_vector<double>() == Values{1, 2, 3, 5, 7, 9});
    CHECK(ops::cumsum(transposed(x), -1).to_vector<double>() == Values{1, 5, 2, 7, 3, 9});
    CHECK(ops::cumsum(two_by_three(i32), 0).dtype() == i64);
    CHECK(ops::cumsum_backward(x, 1).to_vector<double>() == Values{6, 5, 3, 15, 11, 6});
    CHECK(ops::cumsum(Tensor::empty({0, 3}), 0).shape() == Shape{0, 3});
    CHECK(ops::cumsum(counting({100, 100}), 0).to_vector<double>().back() == 99 * 100 + 4950 * 100);
    CHECK_THROWS_AS(ops::cumsum(x, 2), Error);
  }

  TEST_CASE("columns, rows and gathered values of several chunks agree") {
    // 3000 x 150: each path cuts it into several tasks. A copy of every column is the reference.
    const Tensor x = normal({3000, 150}, f64);
    x.data<double>()[1234 * 150 + 77] = 50;
    x.data<double>()[2345 * 150 + 77] = 50;
    const Tensor steps =
        Tensor::view(x.storage(), 0, {225000}, {2}, f64);  // 225000 values, not dense
    Tensor copy = Tensor::empty({150, 3000}, f64), dense = Tensor::empty({225000}, f64);
    for (int64_t i = 0; i < x.numel(); ++i)
      copy.data<double>()[i % 150 * 3000 + i / 150] = x.data<double>()[i];
    for (int64_t i = 0; i < dense.numel(); ++i) dense.data<double>()[i] = x.data<double>()[2 * i];
    using Reduction = Tensor (*)(const Tensor&, const Shape&, bool);
    for (Reduction reduction : {ops::sum, ops::mean, ops::max, ops::min, ops::logsumexp}) {
      check_near(reduction(x, {0}, false), reduction(copy, {1}, false).to_vector<double>(), 1e-12);
      check_near(reduction(steps, {0}, false), reduction(dense, {0}, false).to_vector<double>(),
                 1e-12);
    }
    check_near(ops::var(x, {0}), ops::var(copy, {1}).to_vector<double>(), 1e-12);
    check_near(ops::norm(x, 3, {0}), ops::norm(copy, 3, {1}).to_vector<double>(), 1e-12);
    CHECK(ops::argmax(x, 0).to_vector<int64_t>() == ops::argmax(copy, 1).to_vector<int64_t>());
    CHECK(ops::argmax(x, 0).to_vector<int64_t>()[77] == 1234);
    CHECK(ops::argmax(steps).item<int64_t>() == ops::argmax(dense).item<int64_t>());
    CHECK(ops::argmin(steps).item<int64_t>() == ops::argmin(dense).item<int64_t>());
    CHECK(ops::all(x, {0}).to_vector<bool>() == std::vector<bool>(150, true));
    const Tensor factors = Tensor::from(std::vector<double>(3000 * 70, 1.001), {3000, 70});
    check_near(ops::prod(factors, {0}), Values(70, std::pow(1.001, 3000)), 1e-10);
    // Reduced axes that do not merge: runs of equally spaced rows.
    const Tensor cube = Tensor::view(x.storage(), 0, {30, 50, 2, 150}, {15000, 300, 150, 1}, f64);
    check_near(ops::sum(cube, {0, 2}), ops::sum(ops::sum(cube, {2}), {0}).to_vector<double>(),
               1e-10);
    check_near(ops::logsumexp(cube, {0, 2}),
               ops::logsumexp(ops::logsumexp(cube, {2}), {0}).to_vector<double>(), 1e-12);
  }

  TEST_CASE("reductions have the same bits on 1, 2 and 4 threads") {
    const Tensor x = normal({70, 1111});
    const auto results = on_several_threads([&] {
      std::vector<float> bits;
      for (const Shape& axes : {Shape{0}, Shape{1}, Shape{}})
        for (const Tensor& y :
             {ops::mean(x, axes), ops::var(x, axes), ops::norm(x, 2, axes), ops::norm(x, 3, axes),
              ops::logsumexp(x, axes), ops::prod(x, axes), ops::max(x, axes),
              ops::var_backward(ops::sum(x, axes), x, axes, false, 1), ops::cumsum(x, 0)})
          for (float value : y.to_vector<float>()) bits.push_back(value);
      return bits;
    });
    CHECK(results[0] == results[1]);
    CHECK(results[0] == results[2]);
  }

  TEST_CASE("a NaN early in a long row is not forgotten") {
    std::vector<float> numbers(100000, 1.0f);
    numbers[5] = std::nanf("");
    numbers.back() = 9.0f;
    const Tensor x = Tensor::from(numbers, {100000});
    for (const Tensor& y : {sum(x), mean(x), max(x), min(x), logsumexp(x), norm(x),
                            norm(x, INFINITY), var(x), prod(x)})
      CHECK(std::isnan(y.item<double>()));
    CHECK(argmax(x).item<int64_t>() == 5);
  }

  TEST_CASE("gradients of the wrong shape or dtype are errors") {
    const Tensor x = two_by_three(), g = Tensor::from<float>({1, 2}, {2}),
                 wide = Tensor::from<double>({1, 2}, {2});
    CHECK_NOTHROW(ops::var_backward(g, x, {1}, false, 1));
    CHECK_THROWS_AS(ops::var_backward(g, x, {0}, false, 1), Error);
    CHECK_THROWS_AS(ops::var_backward(wide, x, {1}, false, 1), Error);
    CHECK_THROWS_AS(ops::std_backward(g, x, x, {1}, false, 1), Error);
    CHECK_THROWS_AS(ops::prod_backward(g, x, {1}, true), Error);
    CHECK_THROWS_AS(ops::max_backward(g, x, {0}, false), Error);
    CHECK_THROWS_AS(ops::norm_backward(g, x, wide, 2, {1}, false), Error);
    CHECK_THROWS_AS(ops::logsumexp_backward(g, x, {}, false), Error);
  }

  TEST_CASE("a gradient through any, all, argmax or argmin names the op") {
    Tensor x = two_by_three();
    x.requires_grad_();
    for (const auto& [y, op] :
         {std::pair{any(x), "any"}, {all(x), "all"}, {argmax(x), "argmax"}, {argmin(x), "argmin"}})
      CHECK_THROWS_WITH_AS(y.backward(), doctest::Contains(op), Error);
  }
}
