// The last layer of a language model, its loss in one op and in the two that it stands for.
#pragma once

#include <doctest/doctest.h>
#include <layer_values.h>

#include <cmath>
#include <utility>
#include <vector>

#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>

namespace tendril::testing::linear_loss {

struct Head {
  Tensor x, weight, bias, target;  // bias undefined when not wanted

  std::vector<Tensor> leaves() const {
    return bias.defined() ? std::vector{x, weight, bias} : std::vector{x, weight};
  }
};

inline Head random_head(const Shape& leading, int64_t channels, int64_t vocabulary, bool with_bias,
                        DType dtype = f32) {
  Shape shape = leading;
  shape.push_back(channels);
  Head head;
  head.x = leaf(to(randn(shape, f64, RandomKey{1}), dtype));
  head.weight = leaf(to(randn({vocabulary, channels}, f64, RandomKey{2}), dtype));
  if (with_bias) head.bias = leaf(to(randn({vocabulary}, f64, RandomKey{3}), dtype));
  head.target = randint(0, vocabulary, leading, i64, RandomKey{4});
  return head;
}

inline Tensor fused(const Head& head, const CrossEntropyOptions& options = {}) {
  return linear_cross_entropy(head.x, head.weight, head.target, head.bias, options);
}
inline Tensor from_logits(const Head& head, const CrossEntropyOptions& options = {}) {
  return cross_entropy(linear(head.x, head.weight, head.bias), head.target, options);
}

/// Value, then gradients. `scale` is the gradient that reaches the loss.
inline std::vector<Tensor> both(const Tensor& loss, const Head& head, double scale = 1.0) {
  std::vector<Tensor> results{loss.detach()};
  for (Tensor& g : grad({loss}, head.leaves(), {full(loss.shape(), scale, loss.dtype())}))
    results.push_back(std::move(g));
  return results;
}

/// The largest difference, relative to the largest number.
inline double difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const Values x = a.to_vector<double>(), y = b.to_vector<double>();
  double worst = 0.0, largest = 1e-30;
  for (size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, std::abs(x[i] - y[i]));
    largest = std::max(largest, std::abs(y[i]));
  }
  return worst / largest;
}

inline void check_close(const std::vector<Tensor>& a, const std::vector<Tensor>& b,
                        double tolerance) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(a[i].dtype() == b[i].dtype());
    CHECK(difference(a[i], b[i]) <= tolerance);
  }
}

inline Tensor ignore_every(int64_t step, const Tensor& target, int64_t ignored = -100) {
  std::vector<int64_t> values = target.to_vector<int64_t>();
  for (size_t i = 0; i < values.size(); i += static_cast<size_t>(step)) values[i] = ignored;
  return Tensor::from(values, target.shape());
}

inline constexpr Reduction kReductions[] = {Reduction::mean, Reduction::sum, Reduction::none};

}  // namespace tendril::testing::linear_loss
