// linear_cross_entropy where numbers are extreme, targets ignored, shapes empty or arguments wrong.
#include <doctest/doctest.h>
#include <linear_loss_tools.h>

#include <cmath>
#include <vector>

#include <tendril/core/ops/linear_loss.h>

using namespace tendril;
using namespace tendril::testing;
using namespace tendril::testing::linear_loss;

TEST_SUITE("linear_loss_edges") {
  TEST_CASE("an infinite upstream gradient leaves ignored rows at 0") {
    Tensor x = randn({2, 4}), weight = randn({5, 4});
    x.requires_grad_();
    weight.requires_grad_();
    const Tensor target = Tensor::from<int64_t>({3, -100}, {2});
    const Tensor loss = linear_cross_entropy(x, weight, target);
    const Tensor dx = grad({loss}, {x}, {full({}, INFINITY)})[0];
    for (int64_t channel = 0; channel < 4; ++channel) {
      CHECK(!std::isfinite(select(select(dx, 0, 0), 0, channel).item<float>()));
      CHECK(select(select(dx, 0, 1), 0, channel).item<float>() == 0.0f);
    }
  }

  TEST_CASE("ignored targets, or all of them") {
    Head head = random_head({2, 4}, 3, 5, true);
    head.target = ignore_every(1, head.target, -1);
    for (const Reduction reduction : kReductions) {
      const auto results = both(fused(head, {.ignore_index = -1, .reduction = reduction}), head);
      for (const Tensor& result : results)
        check_near(result, Values(static_cast<size_t>(result.numel()), 0.0), 0);
    }
    // What an ignored row holds does not reach anything.
    const Tensor x = leaf(floats({1, kNan, 1}, {3, 1})), weight = leaf(floats({0, 0}, {2, 1}));
    const Tensor loss = linear_cross_entropy(x, weight, Tensor::from<int64_t>({0, -100, 1}, {3}));
    check_near(loss, {0.6931472}, 1e-7);
    loss.backward();
    check_near(x.grad(), {0, 0, 0}, 0);
    check_near(weight.grad(), {0, 0}, 1e-9);
  }

  TEST_CASE("no rows, no channels, no classes") {
    const Tensor none = Tensor::from<int64_t>({}, {0});
    const Tensor x = leaf(zeros({0, 3})), weight = leaf(zeros({5, 3}));
    const Tensor loss = linear_cross_entropy(x, weight, none);
    CHECK(loss.item<double>() == 0.0);
    loss.backward();
    CHECK(x.grad().shape() == Shape{0, 3});
    check_near(weight.grad(), Values(15, 0.0), 0);
    const Tensor target = Tensor::from<int64_t>({1}, {1});
    check_near(linear_cross_entropy(zeros({1, 0}), zeros({2, 0}), target), {0.6931472}, 1e-7);
    const Tensor ignored = Tensor::from<int64_t>({-100}, {1});
    CHECK(linear_cross_entropy(zeros({1, 3}), zeros({0, 3}), ignored).item<double>() == 0.0);
  }

  TEST_CASE("large and infinite logits") {
    const Tensor x = leaf(floats({1e4, 0, 1e4, 0, 1e4, 9999}, {3, 2})), weight = eye(2);
    const Tensor loss = linear_cross_entropy(x, weight, Tensor::from<int64_t>({0, 1, 0}, {3}), {},
                                             {.reduction = Reduction::none});
    check_near(loss, {0, 1e4, 0.3132617}, 1e-6);
    loss.backward(ones({3}));
    check_near(x.grad(), {0, 0, 1, -1, -0.2689414, 0.2689414}, 1e-6);
    // A bias of -inf takes a class out.
    const Tensor y = leaf(zeros({1, 3})), bias = floats({0, -kInf, 0}, {3});
    const Tensor two = linear_cross_entropy(y, eye(3), Tensor::from<int64_t>({2}, {1}), bias);
    check_near(two, {0.6931472}, 1e-7);
    two.backward();
    check_near(y.grad(), {0.5, 0, -0.5}, 1e-7);
    const Tensor only = floats({-kInf, -kInf, 0}, {3});
    const Tensor certain = linear_cross_entropy(y, eye(3), Tensor::from<int64_t>({2}, {1}), only);
    CHECK(certain.item<double>() == 0.0);
    CHECK(linear_cross_entropy(y.detach(), eye(3), Tensor::from<int64_t>({1}, {1}), bias)
              .item<double>() == kInf);
  }

  TEST_CASE("a logit that is NaN makes loss and gradients NaN, whoever else is") {
    const double nan = std::nan("");
    for (const std::vector<double>& logits :
         {std::vector<double>{1, nan, nan}, {1, 2, nan}, {nan, 1, 2}, {nan, nan, nan}}) {
      Head head;
      head.x = leaf(ones({1, 1}, f64));
      head.weight = leaf(Tensor::from(logits, {3, 1}));
      head.target = zeros({1}, i64);
      for (const Tensor& result : both(fused(head), head))
        for (const double value : result.to_vector<double>()) CHECK(std::isnan(value));
    }
  }

  TEST_CASE("a confident prediction keeps its digits") {
    // p of the target is 1 - 2.06e-9.
    const Tensor x = leaf(floats({20, 0}, {1, 2}));
    const Tensor loss = linear_cross_entropy(x, eye(2), Tensor::from<int64_t>({0}, {1}));
    check_near(loss, {2.0611536e-9}, 1e-14);
    loss.backward();
    check_near(x.grad(), {-2.0611536e-9, 2.0611536e-9}, 1e-14);
  }

  TEST_CASE("errors name the op and what does not fit") {
    const Tensor x = zeros({2, 3}), weight = zeros({5, 3}), good = zeros({2}, i64);
    CHECK_THROWS_WITH_AS(linear_cross_entropy(x, zeros({5, 4}), good),
                         doctest::Contains("[linear_cross_entropy] needs x (..., C)"), Error);
    CHECK_THROWS_WITH_AS(linear_cross_entropy(x, weight, zeros({3}, i64)),
                         doctest::Contains("shapes do not fit"), Error);
    CHECK_THROWS_WITH_AS(linear_cross_entropy(x, weight, zeros({2})),
                         doctest::Contains("i64 or i32 targets"), Error);
    CHECK_THROWS_WITH_AS(linear_cross_entropy(x, weight, good, zeros({4})),
                         doctest::Contains("the bias must be (V)"), Error);
    CHECK_THROWS_WITH_AS(linear_cross_entropy(x, weight, full({2}, 5, i64)),
                         doctest::Contains("target out of range"), Error);
    CHECK_THROWS_WITH_AS(linear_cross_entropy(zeros({2, 3}, i64), weight, good),
                         doctest::Contains("floating-point"), Error);
    CHECK_THROWS_WITH_AS(linear_cross_entropy(x, zeros({5, 3}, i32), good),
                         doctest::Contains("floating-point weight"), Error);
    CHECK_THROWS_WITH_AS(linear_cross_entropy(x, weight, good, {}, {.label_smoothing = 1.5}),
                         doctest::Contains("label_smoothing"), Error);
    CHECK_THROWS_WITH_AS(
        ops::linear_cross_entropy(x, weight, good, {}, {.reduction = Reduction::none}, {.x = true}),
        doctest::Contains("Reduction::mean or sum"), Error);
  }
}
