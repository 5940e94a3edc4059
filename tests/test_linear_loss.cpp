// linear_cross_entropy against hand-checked numbers and against the two ops that it stands for. Its
// gradients are also checked by test_ops.cpp.
#include <doctest/doctest.h>
#include <linear_loss_tools.h>

#include <utility>
#include <vector>

#include <tendril/autograd/checkpoint.h>
#include <tendril/core/allocator.h>
#include <tendril/core/ops/linear_loss.h>
#include <tendril/core/threads.h>

using namespace tendril;
using namespace tendril::testing;
using namespace tendril::testing::linear_loss;

TEST_SUITE("linear_loss") {
  TEST_CASE("one row") {
    // The identity as weight: the logits are x = (1, 2, 3, -1).
    const Tensor x = leaf(floats({1, 2, 3, -1}, {1, 4})), weight = leaf(eye(4));
    const Tensor target = Tensor::from<int64_t>({1}, {1});
    const Tensor loss = linear_cross_entropy(x, weight, target);
    CHECK(loss.shape() == Shape{});
    check_near(loss, {1.4197166}, 2e-7);
    loss.backward();
    const Values dx = {0.0889468, -0.7582175, 0.6572330, 0.0120376};
    check_near(x.grad(), dx, 1e-7);
    Values dw;  // dx_v x_c
    for (const double d : dx)
      for (const double value : {1, 2, 3, -1}) dw.push_back(d * value);
    check_near(weight.grad(), dw, 3e-7);
    const Tensor smoothed =
        linear_cross_entropy(x.detach(), weight.detach(), target, {}, {.label_smoothing = 0.1});
    check_near(smoothed, {1.4947166}, 2e-7);
  }

  TEST_CASE("equals cross_entropy of linear") {
    for (const auto& [dtype, tolerance] : {std::pair{f32, 1e-6}, std::pair{f64, 1e-12}})
      for (const Reduction reduction : kReductions)
        for (const double smoothing : {0.0, 0.1, 1.0})
          for (const bool with_bias : {false, true})
            for (const int64_t vocabulary : {1, 2, 37, 130}) {
              CAPTURE(vocabulary);
              CAPTURE(smoothing);
              Head head = random_head({3, 7}, 6, vocabulary, with_bias, dtype);
              const CrossEntropyOptions options{.label_smoothing = smoothing,
                                                .reduction = reduction};
              head.target = ignore_every(4, head.target);
              check_close(both(fused(head, options), head), both(from_logits(head, options), head),
                          tolerance);
            }
  }

  TEST_CASE("the size of the chunks does not matter") {
    const Head head = random_head({20}, 9, 41, true, f64);
    const CrossEntropyOptions mean, none{.reduction = Reduction::none};
    const ops::LinearWanted all{true, true, true};
    const auto expected = both(from_logits(head), head);
    const Tensor rows = from_logits(head, none).detach();
    for (const int64_t chunk : {1, 7, 19, 20, 100}) {
      CAPTURE(chunk);
      const auto [loss, gradients] =
          ops::linear_cross_entropy(head.x, head.weight, head.target, head.bias, mean, all, chunk);
      check_close({loss, gradients.x, gradients.weight, gradients.bias}, expected, 1e-12);
      const auto again = ops::linear_cross_entropy_backward(
          full({20}, 0.05, f64), head.x, head.weight, head.target, head.bias, none, all, chunk);
      check_close({loss, again.x, again.weight, again.bias}, expected, 1e-12);
      check_close(
          {ops::linear_cross_entropy(head.x, head.weight, head.target, head.bias, none, {}, chunk)
               .loss},
          {rows}, 1e-12);
    }
  }

  TEST_CASE("more rows than one chunk holds") {
    Head head = random_head({700}, 8, 9001, false);
    head.target = ignore_every(50, head.target);
    check_close(both(fused(head), head), both(from_logits(head), head), 2e-6);
  }

  TEST_CASE("the gradient that reaches the loss scales its gradients") {
    const Head head = random_head({5}, 4, 11, true, f64);
    for (const double scale : {0.25, -3.0, 0.0})
      check_close(both(fused(head), head, scale), both(from_logits(head), head, scale), 1e-12);
    const Tensor loss = square(fused(head)) + 2.0 * fused(head);
    const Tensor expected = square(from_logits(head)) + 2.0 * from_logits(head);
    check_close(both(loss, head), both(expected, head), 1e-12);
  }

  TEST_CASE("a retained graph can be used again, whatever became of the gradients") {
    Head head = random_head({6}, 4, 11, true, f64);
    const auto expected = both(from_logits(head), head);
    const Tensor loss = fused(head);
    loss.backward(full({}, 2.0, f64), true);
    for (size_t i = 0; i < 3; ++i) {
      Tensor parameter = head.leaves()[i];
      CHECK(difference(parameter.grad(), expected[i + 1] * 2.0) <= 1e-12);
      mul_(parameter.grad(), 0.0);
    }
    loss.backward(full({}, 3.0, f64), true);
    for (size_t i = 0; i < 3; ++i)
      CHECK(difference(head.leaves()[i].grad(), expected[i + 1] * 3.0) <= 1e-12);
    const auto weight_only = grad({loss}, {head.weight}, {}, {.retain_graph = true});
    CHECK(difference(weight_only[0], expected[2]) <= 1e-12);
    loss.backward();
    CHECK(difference(head.x.grad(), expected[1] * 4.0) <= 1e-12);
  }

  TEST_CASE("a tied weight gets both gradients") {
    const Tensor tokens = randint(0, 13, {6}, i64, RandomKey{5});
    const Head head = random_head({6}, 4, 13, false, f64);
    const auto gradient = [&](auto head_loss) {
      return grad({head_loss(tanh(embedding(tokens, head.weight)))}, {head.weight})[0];
    };
    const Tensor one = gradient(
        [&](const Tensor& x) { return linear_cross_entropy(x, head.weight, head.target); });
    const Tensor other = gradient(
        [&](const Tensor& x) { return cross_entropy(linear(x, head.weight), head.target); });
    CHECK(difference(one, other) <= 1e-12);
  }

  TEST_CASE("inside a checkpoint") {
    const Head head = random_head({6}, 4, 13, false, f64);
    const auto run = [&](const std::vector<Tensor>& in) {
      return linear_cross_entropy(in[0], head.weight, head.target);
    };
    check_close(both(checkpoint(run, {head.x}), head), both(from_logits(head), head), 1e-12);
  }

  TEST_CASE("only what requires grad gets one; nothing is computed when not recording") {
    Head head = random_head({64}, 16, 300, true);
    const auto expected = both(from_logits(head), head);
    for (const size_t wanted : {0, 1, 2}) {
      std::vector<Tensor> inputs = head.leaves();
      for (size_t i = 0; i < 3; ++i)
        if (i != wanted) inputs[i] = inputs[i].detach();
      const Tensor loss = linear_cross_entropy(inputs[0], inputs[1], head.target, inputs[2]);
      CHECK(difference(grad({loss}, {inputs[wanted]})[0], expected[wanted + 1]) <= 1e-6);
    }
    // With recording the gradients are formed together with the loss; without, they must not be.
    const auto peak_bytes = [&](bool record) {
      const GradMode mode(record);
      const int64_t before = memory_stats().current_bytes;
      reset_peak_memory_stats();
      const Tensor loss = fused(head);
      return memory_stats().peak_bytes - before;
    };
    const int64_t weight_bytes = 300 * 16 * 4;
    CHECK(peak_bytes(true) - peak_bytes(false) >= weight_bytes);
    const NoGradGuard no_grad;
    const Tensor loss = fused(head);
    CHECK(!loss.requires_grad());
    CHECK(difference(loss, expected[0]) <= 1e-6);
  }

  TEST_CASE("16-bit operands: the loss is f32, and so are the logits and the sums") {
    for (const DType dtype : {bf16, f16}) {
      const Head half = random_head({40}, 16, 50, true, dtype);
      Head single = half;
      for (Tensor* t : {&single.x, &single.weight, &single.bias}) *t = leaf(to(t->detach(), f32));
      const auto results = both(fused(half), half), expected = both(from_logits(single), single);
      CHECK(results[0].dtype() == f32);
      CHECK(difference(results[0], expected[0]) <= 1e-6);
      for (size_t i = 1; i < 4; ++i) {
        CHECK(results[i].dtype() == dtype);
        CHECK(difference(results[i], expected[i]) <= (dtype == bf16 ? 0x1p-8 : 0x1p-11));
      }
    }
    // Scaled before they are rounded: 1e-9 is no f16, 1e-9 * 65536 is.
    const Tensor x = leaf(to(floats({20, 0}, {1, 2}), f16));
    const Tensor loss = linear_cross_entropy(x, to(eye(2), f16), Tensor::from<int64_t>({0}, {1}));
    (loss * 65536.0).backward();
    CHECK(difference(x.grad(), floats({-1.350798e-4, 1.350798e-4}, {1, 2})) <= 0x1p-10);
    // Mixed operands are multiplied as they are.
    const Head mixed{leaf(to(randn({4, 3}), bf16)),
                     leaf(randn({7, 3})),
                     {},
                     randint(0, 7, {4}, i64, RandomKey{6})};
    const auto results = both(fused(mixed), mixed);
    CHECK(results[1].dtype() == bf16);
    CHECK(results[2].dtype() == f32);
  }

  TEST_CASE("strided operands") {
    const Head head = random_head({6}, 5, 17, false);
    Head strided = head;
    strided.x = leaf(column_major(head.x.detach()));
    strided.weight = leaf(column_major(head.weight.detach()));
    check_close(both(fused(strided), strided), both(fused(head), head), 1e-6);
    const Tensor weight = head.weight.detach(), repeated = expand(ones({1, 5}), {6, 5});
    const Tensor loss = linear_cross_entropy(repeated, weight, head.target);
    CHECK(same_bits(loss, linear_cross_entropy(ones({6, 5}), weight, head.target)));
  }

  TEST_CASE("the same bits on any number of threads") {
    Head head = random_head({600}, 24, 2003, true);
    head.target = ignore_every(7, head.target);
    const auto run = [&](int threads) {
      set_num_threads(threads);
      auto results = both(fused(head, {.label_smoothing = 0.1}), head);
      for (Tensor& result : both(fused(head, {.reduction = Reduction::none}), head))
        results.push_back(std::move(result));
      return results;
    };
    const int before = num_threads();
    const auto expected = run(1);
    for (const int threads : {2, 3, 4}) {
      const auto results = run(threads);
      for (size_t i = 0; i < expected.size(); ++i) CHECK(same_bits(results[i], expected[i]));
    }
    set_num_threads(before);
  }

  TEST_CASE("the logits never exist") {
    const int64_t rows = 2048, vocabulary = 4096, logits = rows * vocabulary * 4;
    const Head head = random_head({rows}, 8, vocabulary, false);
    const auto peak = [&](const CrossEntropyOptions& options) {
      reset_peak_memory_stats();
      const int64_t before = memory_stats().current_bytes;
      both(fused(head, options), head);
      return memory_stats().peak_bytes - before;
    };
    CHECK(peak({}) < logits / 3);
    CHECK(peak({.reduction = Reduction::none}) < logits / 3);
  }
}
