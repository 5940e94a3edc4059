// The losses: hand-checked values and gradients, extreme logits, ignored targets and errors. The
// gradients are also checked by test_ops.cpp.
#include <doctest/doctest.h>
#include <layer_values.h>

#include <cmath>
#include <limits>

#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/threads.h>

using namespace tendril;
using namespace tendril::testing;

namespace {

Tensor classes(const std::vector<int64_t>& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())});
}

}  // namespace

TEST_SUITE("loss") {
  // ---- cross_entropy

  TEST_CASE("a weight of 0 does not meet an infinite logit") {
    const float infinity = std::numeric_limits<float>::infinity();
    const Tensor x = floats({0, -infinity, 0}, {1, 3});
    CHECK(cross_entropy(x, classes({1}), {.label_smoothing = 1.0}).item<float>() == infinity);
    CHECK(cross_entropy(x, classes({0})).item<float>() == doctest::Approx(std::log(2.0)));
  }

  TEST_CASE("cross_entropy of one row") {
    const Tensor x = leaf(floats({1, 2, 3, -1}, {1, 4}));
    const Tensor loss = cross_entropy(x, classes({1}));
    CHECK(loss.shape() == Shape{});
    check_near(loss, {1.4197166}, 2e-7);
    loss.backward();
    check_near(x.grad(), {0.0889468, -0.7582175, 0.6572330, 0.0120376}, 1e-7);
  }

  TEST_CASE("cross_entropy with smoothed labels") {
    const Tensor x = leaf(floats({1, 2, 3, -1}, {1, 4}));
    const Tensor loss = cross_entropy(x, classes({1}), {.label_smoothing = 0.1});
    check_near(loss, {1.4947166}, 2e-7);
    loss.backward();
    check_near(x.grad(), {0.0639468, -0.6832175, 0.6322330, -0.0129624}, 1e-7);
    // Smoothed entirely: every class has a quarter.
    check_near(cross_entropy(x.detach(), classes({1}), {.label_smoothing = 1.0}), {2.1697166},
               3e-7);
  }

  TEST_CASE("cross_entropy over rows, each reduction") {
    // Two equal logits: ln 2 whatever the target; (0, ln 3): ln 4 and ln 4/3.
    const Tensor x = floats({5, 5, 0, 1.0986122886681098, 0, 1.0986122886681098}, {3, 2});
    const Tensor target = classes({0, 0, 1});
    const Values rows = {0.6931472, 1.3862944, 0.2876821};
    check_near(cross_entropy(x, target, {.reduction = Reduction::none}), rows, 2e-7);
    check_near(cross_entropy(x, target, {.reduction = Reduction::sum}), {2.3671236}, 5e-7);
    check_near(cross_entropy(x, target), {0.7890412}, 2e-7);
    const Tensor weighted = leaf(clone(x));
    cross_entropy(weighted, target, {.reduction = Reduction::none})
        .backward(floats({2, 4, 8}, {3}));
    check_near(weighted.grad(), {-1, 1, -3, 3, 2, -2}, 2e-6);
  }

  TEST_CASE("cross_entropy of every vocabulary size, also beside the vector width") {
    for (int64_t vocabulary = 1; vocabulary <= 70; ++vocabulary) {
      CAPTURE(vocabulary);
      const Tensor x = leaf(full({2, vocabulary}, -2.5));
      const Tensor loss = cross_entropy(x, classes({0, vocabulary - 1}));
      check_near(loss, {std::log(static_cast<double>(vocabulary))}, 5e-7);
      loss.backward();
      Values expected(static_cast<size_t>(2 * vocabulary), 0.5 / static_cast<double>(vocabulary));
      expected.front() -= 0.5;
      expected.back() -= 0.5;
      check_near(x.grad(), expected, 3e-7);
    }
  }

  TEST_CASE("cross_entropy of a real vocabulary") {
    const Tensor x = full({3, 50257}, 1.5);
    check_near(cross_entropy(x, classes({0, 25000, 50256})), {10.8249051}, 2e-6);
  }

  TEST_CASE("cross_entropy ignores some targets, or all") {
    Tensor x = leaf(floats({0, 0, 3, 9, 0, 0}, {3, 2}));
    const Tensor loss = cross_entropy(x, classes({0, -100, 1}));
    check_near(loss, {0.6931472}, 2e-7);
    loss.backward();
    check_near(x.grad(), {-0.25, 0.25, 0, 0, 0.25, -0.25}, 1e-7);
    x.set_grad({});
    const Tensor nothing = cross_entropy(x, classes({-1, -1, -1}), {.ignore_index = -1});
    CHECK(nothing.item<double>() == 0.0);
    nothing.backward();
    check_near(x.grad(), Values(6, 0.0), 0);
    // An index of the vocabulary can be the one to ignore.
    const CrossEntropyOptions options{.ignore_index = 1, .reduction = Reduction::none};
    check_near(cross_entropy(x.detach(), classes({0, 1, 1}), options), {0.6931472, 0, 0}, 2e-7);
    CHECK(cross_entropy(zeros({0, 5}), classes({})).item<double>() == 0.0);
    CHECK(cross_entropy(zeros({2, 0}), classes({-100, -100})).item<double>() == 0.0);
  }

  TEST_CASE("cross_entropy of large and infinite logits") {
    const Tensor x = leaf(floats({1e4, 0, 1e4, 0, 1e4, 9999}, {3, 2}));
    const Tensor loss = cross_entropy(x, classes({0, 1, 0}), {.reduction = Reduction::none});
    check_near(loss, {0, 1e4, 0.3132617}, 1e-6);
    loss.backward(ones({3}));
    check_near(x.grad(), {0, 0, 1, -1, -0.2689414, 0.2689414}, 1e-6);
    const Tensor masked = leaf(floats({0, -kInf, 0}, {1, 3}));
    const Tensor finite = cross_entropy(masked, classes({2}));
    check_near(finite, {0.6931472}, 1e-7);
    finite.backward();
    check_near(masked.grad(), {0.5, 0, -0.5}, 1e-7);
    CHECK(cross_entropy(masked.detach(), classes({1})).item<double>() == kInf);
  }

  TEST_CASE("cross_entropy's gradient keeps the digits of a confident prediction") {
    // p of the target is 1 - 2.06e-9: 1 - p is lost when it is formed from p in float.
    const Tensor x = leaf(floats({20, 0}, {1, 2}));
    cross_entropy(x, classes({0})).backward();
    check_near(x.grad(), {-2.0611536e-9, 2.0611536e-9}, 1e-14);
  }

  TEST_CASE("the loss of 16-bit logits is f32, their gradient is not") {
    const Tensor x = leaf(to(floats({1, 2, 3, -1}, {1, 4}), bf16));
    const Tensor loss = cross_entropy(x, Tensor::from<int32_t>({1}, {1}));
    CHECK(loss.dtype() == f32);
    check_near(loss, {1.4197166}, 1e-6);
    loss.backward();
    CHECK(x.grad().dtype() == bf16);
    check_near(x.grad(), {0.0889468, -0.7582175, 0.6572330, 0.0120376}, 3e-3);
    CHECK(mse_loss(x.detach(), x.detach()).dtype() == f32);
  }

  TEST_CASE("cross_entropy of strided logits, with more leading axes") {
    const Tensor x = randn({4, 6}, f32, RandomKey{1});
    const Tensor target = classes({5, 0, 3, 2});
    const Tensor expected = cross_entropy(x, target, {.reduction = Reduction::none});
    const Tensor strided = transpose(contiguous(transpose(x)));
    CHECK(same_bits(cross_entropy(strided, target, {.reduction = Reduction::none}), expected));
    const Tensor folded = cross_entropy(reshape(x, {2, 2, 6}), reshape(target, {2, 2}),
                                        {.reduction = Reduction::none});
    CHECK(folded.shape() == Shape{2, 2});
    CHECK(folded.to_vector<float>() == expected.to_vector<float>());
  }

  TEST_CASE("the same bits on any number of threads") {
    const Tensor x = leaf(randn({3, 50, 301}, f32, RandomKey{2}));
    const Tensor target = randint(0, 301, {3, 50}, i64, RandomKey{3});
    const Tensor a = leaf(randn({200, 301}, f32, RandomKey{4}));
    const Tensor b = rand({200, 301}, f32, RandomKey{5});
    const auto run = [&] {
      std::vector<Tensor> results;
      for (const Tensor& loss :
           {cross_entropy(x, target, {.label_smoothing = 0.1}), nll_loss(log_softmax(x), target)}) {
        results.push_back(loss.detach());
        results.push_back(grad({loss}, {x})[0]);
      }
      for (const Tensor& loss :
           {mse_loss(a, b), binary_cross_entropy_with_logits(a, b), kl_div(a, b)}) {
        results.push_back(loss.detach());
        results.push_back(grad({loss}, {a})[0]);
      }
      return results;
    };
    const int before = num_threads();
    set_num_threads(1);
    const auto expected = run();
    for (const int threads : {2, 4}) {
      set_num_threads(threads);
      const auto results = run();
      for (size_t i = 0; i < expected.size(); ++i) CHECK(same_bits(results[i], expected[i]));
    }
    set_num_threads(before);
  }

  // ---- nll_loss

  TEST_CASE("nll_loss picks the target's log probability") {
    const Tensor x = leaf(floats({-1, -2, -3, -4, -5, -6}, {3, 2}));
    const Tensor target = classes({1, -100, 0});
    check_near(nll_loss(x, target, -100, Reduction::none), {2, 0, 5}, 0);
    check_near(nll_loss(x, target, -100, Reduction::sum), {7}, 0);
    const Tensor loss = nll_loss(x, target);
    check_near(loss, {3.5}, 0);
    loss.backward();
    check_near(x.grad(), {0, -0.5, 0, 0, -0.5, 0}, 0);
    CHECK(nll_loss(x.detach(), classes({9, 9, 9}), 9).item<double>() == 0.0);
  }

  // ---- pointwise losses

  TEST_CASE("mse_loss and l1_loss with gradients to both sides") {
    Tensor x = leaf(floats({1, 2, 3, -1}, {2, 2})), t = leaf(floats({2, 2, 5, 3}, {2, 2}));
    check_near(mse_loss(x, t, Reduction::none), {1, 0, 4, 16}, 0);
    check_near(mse_loss(x, t, Reduction::sum), {21}, 0);
    const Tensor loss = mse_loss(x, t);
    check_near(loss, {5.25}, 0);
    loss.backward();
    check_near(x.grad(), {-0.5, 0, -1, -2}, 0);
    check_near(t.grad(), {0.5, 0, 1, 2}, 0);
    x.set_grad({});
    t.set_grad({});
    check_near(l1_loss(x, t, Reduction::none), {1, 0, 2, 4}, 0);
    check_near(l1_loss(x, t), {1.75}, 0);
    l1_loss(x, t, Reduction::none).backward(floats({1, 2, 3, 4}, {2, 2}));
    check_near(x.grad(), {-1, 0, -3, -4}, 0);
    check_near(t.grad(), {1, 0, 3, 4}, 0);
  }

  TEST_CASE("binary_cross_entropy_with_logits") {
    const Tensor x = leaf(floats({0, 2, -2, 1000, -1000, 1000}, {6}));
    const Tensor t = floats({0.3, 1, 1, 1, 1, 0}, {6});
    const Tensor loss = binary_cross_entropy_with_logits(x, t, Reduction::none);
    check_near(loss, {0.6931472, 0.1269280, 2.1269280, 0, 1000, 1000}, 1e-6);
    loss.backward(ones({6}));
    check_near(x.grad(), {0.2, -0.1192029, -0.8807971, 0, -1, 1}, 1e-6);
    // A confident, right answer still has a loss.
    const Tensor sure = binary_cross_entropy_with_logits(floats({20}, {1}), ones({1}));
    CHECK(sure.item<double>() == doctest::Approx(2.0611536e-9).epsilon(1e-5));
  }

  TEST_CASE("kl_div of probabilities and of their logarithms") {
    // 0.75 ln(0.75 / 0.5) + 0.25 ln(0.25 / 0.5)
    const Values halves = {-0.6931471805599453, -0.6931471805599453};
    const Tensor x = leaf(floats(halves, {2})), t = leaf(floats({0.75, 0.25}, {2}));
    const Tensor loss = kl_div(x, t, Reduction::sum);
    check_near(loss, {0.1308120}, 1e-7);
    check_near(kl_div(x, t), {0.0654060}, 1e-7);
    loss.backward();
    check_near(x.grad(), {-0.75, -0.25}, 1e-7);
    check_near(t.grad(), {1.4054651, 0.3068528}, 1e-6);
    const Tensor logarithms = leaf(floats({-0.2876820724517809, -1.3862943611198906}, {2}));
    const Tensor same = kl_div(x.detach(), logarithms, Reduction::sum, true);
    check_near(same, {0.1308120}, 1e-7);
    same.backward();
    check_near(logarithms.grad(), {1.0540988, 0.0767132}, 1e-6);
  }

  TEST_CASE("kl_div of impossible events adds nothing") {
    const Tensor x = leaf(floats({-kInf, 0}, {2})), t = leaf(floats({0, 1}, {2}));
    const Tensor loss = kl_div(x, t, Reduction::none);
    check_near(loss, {0, 0}, 0);
    loss.backward(ones({2}));
    check_near(x.grad(), {0, -1}, 0);
    check_near(t.grad(), {0, 1}, 0);
    check_near(kl_div(x.detach(), floats({-kInf, 0}, {2}), Reduction::sum, true), {0}, 0);
  }

  TEST_CASE("pointwise losses of strided, broadcast and empty tensors") {
    const Tensor x = randn({5, 3}, f32, RandomKey{6}), t = randn({5, 3}, f32, RandomKey{7});
    const Tensor strided = transpose(contiguous(transpose(x)));
    CHECK(same_bits(mse_loss(strided, t), mse_loss(x, t)));
    const Tensor repeated = expand(floats({1, 2, 3}, {1, 3}), {2, 3});
    check_near(l1_loss(repeated, zeros({2, 3})), {2}, 0);
    CHECK(mse_loss(zeros({0, 3}), zeros({0, 3}), Reduction::sum).item<double>() == 0.0);
    CHECK(std::isnan(mse_loss(zeros({0, 3}), zeros({0, 3})).item<double>()));
    CHECK(l1_loss(zeros({0, 3}), zeros({0, 3}), Reduction::none).shape() == Shape{0, 3});
    check_near(mse_loss(floats({3}, {}), floats({1}, {})), {4}, 0);
  }

  TEST_CASE("errors") {
    const Tensor x = zeros({2, 3}), target = classes({0, 1});
    CHECK_THROWS_AS(cross_entropy(x, classes({0, 3})), Error);
    CHECK_THROWS_AS(cross_entropy(x, classes({-1, 0})), Error);
    CHECK_THROWS_AS(cross_entropy(x, classes({0, 1, 2})), Error);
    CHECK_THROWS_AS(cross_entropy(x, zeros({2})), Error);
    CHECK_THROWS_AS(cross_entropy(zeros({2, 3}, i64), target), Error);
    CHECK_THROWS_AS(cross_entropy(x, target, {.label_smoothing = 1.5}), Error);
    CHECK_THROWS_AS(cross_entropy(x, target, {.label_smoothing = -0.1}), Error);
    CHECK_THROWS_AS(cross_entropy(zeros({}), target), Error);
    CHECK_THROWS_AS(cross_entropy(zeros({2, 0}), target), Error);
    CHECK_THROWS_AS(cross_entropy(x, {}), Error);
    CHECK_THROWS_AS(nll_loss(x, classes({0, 3})), Error);
    CHECK_THROWS_AS(nll_loss(x, zeros({2, 3}, i64)), Error);
    CHECK_THROWS_AS(mse_loss(x, zeros({3})), Error);
    CHECK_THROWS_AS(mse_loss(x, zeros({2, 3}, f64)), Error);
    CHECK_THROWS_AS(l1_loss(zeros({2}, i32), zeros({2}, i32)), Error);
    CHECK_THROWS_AS(binary_cross_entropy_with_logits(x, zeros({2, 1})), Error);
    CHECK_THROWS_AS(kl_div(x, zeros({2, 3, 1})), Error);
    const std::string message =
        "[cross_entropy] target out of range; got 3 for 3 classes; targets must be in [0, 3) or "
        "ignore_index -100";
    CHECK_THROWS_WITH_AS(cross_entropy(x, classes({0, 3})), message.c_str(), Error);
  }
}
