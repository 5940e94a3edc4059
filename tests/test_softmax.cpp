// softmax and log_softmax: hand-checked values, every length, layouts, extreme inputs and errors.
// The gradients are also checked by test_ops.cpp, equality over thread counts by test_layers.cpp.
#include <doctest/doctest.h>
#include <layer_values.h>

#include <cmath>

#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>

using namespace tendril;
using namespace tendril::testing;

TEST_SUITE("softmax") {
  TEST_CASE("softmax of a row") {
    const Tensor x = floats({1, 2, 3}, {3});
    check_near(softmax(x), {0.09003057, 0.24472847, 0.66524096}, 1e-7);
    check_near(log_softmax(x), {-2.40760596, -1.40760596, -0.40760596}, 5e-7);
    check_near(softmax(to(x, f64)), {0.0900305731704, 0.2447284710548, 0.6652409557748}, 1e-13);
    CHECK(softmax(x).dtype() == f32);
    CHECK(log_softmax(to(x, bf16)).dtype() == bf16);
  }

  TEST_CASE("softmax of every length, also beside the vector width") {
    // x_i = i ln 2 has the softmax 2^i / (2^n - 1).
    for (int64_t n = 1; n <= 70; ++n) {
      CAPTURE(n);
      Values x, expected, logarithms;
      for (int64_t i = 0; i < n; ++i) {
        x.push_back(static_cast<double>(i) * std::log(2.0));
        expected.push_back(std::exp2(static_cast<double>(i)) / (std::exp2(double(n)) - 1.0));
        logarithms.push_back(std::log(expected.back()));
      }
      check_near(softmax(floats(x, {n})), expected, 1e-6);
      check_near(log_softmax(floats(x, {n})), logarithms, 1e-5);
      check_near(log_softmax(Tensor::from(x, {n})), logarithms, 1e-12);
    }
  }

  TEST_CASE("softmax of a long row keeps its digits") {
    const Tensor x = full({1, 50257}, 3.25);
    check_near(softmax(x), Values(50257, 1.0 / 50257), 1e-11);
    check_near(log_softmax(x), Values(50257, -10.8249037), 2e-6);
  }

  TEST_CASE("softmax along any axis, of any layout") {
    const Tensor x = floats({1, 2, 3, 4, 0, -1}, {2, 3});
    const Values columns = {0.04742587, 0.88079708, 0.98201379, 0.95257413, 0.11920292, 0.01798621};
    check_near(softmax(x, 0), columns, 1e-6);
    check_near(softmax(x, -2), columns, 1e-6);
    const Tensor y = softmax(x);
    CHECK(same_bits(softmax(column_major(x)), y));
    CHECK(same_bits(softmax(column_major(x), 0), softmax(x, 0)));
    CHECK(reversed(softmax(reversed(x))).to_vector<float>() == y.to_vector<float>());
    const Tensor repeated = expand(floats({1, 2, 3}, {1, 3}), {4, 3});
    CHECK(softmax(repeated).to_vector<float>()[9] ==
          softmax(floats({1, 2, 3}, {3})).to_vector<float>()[0]);
  }

  TEST_CASE("softmax of large, infinite and missing numbers") {
    const Tensor x = leaf(floats({10000, 9999, -10000}, {3}));
    check_near(softmax(x), {0.73105858, 0.26894142, 0}, 1e-6);
    check_near(log_softmax(x), {-0.31326169, -1.31326169, -20000.3132617}, 2e-3);
    const Tensor masked = leaf(floats({0, -kInf, 0}, {3}));
    const Tensor y = softmax(masked);
    check_near(y, {0.5, 0, 0.5}, 0);
    y.backward(floats({1, 2, 3}, {3}));
    check_near(masked.grad(), {-0.5, 0, 0.5}, 1e-7);
    const Tensor logarithm = log_softmax(masked.detach());
    CHECK(logarithm.to_vector<double>()[1] == -kInf);
    CHECK(logarithm.to_vector<double>()[0] == doctest::Approx(-0.69314718));
    for (const double value : softmax(floats({-kInf, -kInf}, {2})).to_vector<double>())
      CHECK(std::isnan(value));
    for (const double value : softmax(floats({1, kNan, 2}, {3})).to_vector<double>())
      CHECK(std::isnan(value));
  }

  TEST_CASE("softmax backward by hand") {
    Tensor x = leaf(floats({5, 5}, {2}));
    softmax(x).backward(floats({1, 0}, {2}));
    check_near(x.grad(), {0.25, -0.25}, 1e-7);
    x.set_grad({});
    log_softmax(x).backward(floats({1, 0}, {2}));
    check_near(x.grad(), {0.5, -0.5}, 1e-7);
  }

  TEST_CASE("softmax of nothing") {
    CHECK(softmax(zeros({0, 3})).shape() == Shape{0, 3});
    CHECK(softmax(zeros({3, 0})).shape() == Shape{3, 0});
    CHECK(log_softmax(zeros({2, 0, 3}), 1).shape() == Shape{2, 0, 3});
    check_near(softmax(zeros({2, 1})), {1, 1}, 0);
  }

  TEST_CASE("softmax errors") {
    const Tensor x = zeros({2, 3});
    CHECK_THROWS_AS(softmax(x, 2), Error);
    CHECK_THROWS_AS(softmax(x, -3), Error);
    CHECK_THROWS_AS(softmax(zeros({})), Error);
    CHECK_THROWS_AS(log_softmax(zeros({2, 3}, i64)), Error);
    CHECK_THROWS_AS(softmax(Tensor{}), Error);
  }
}
