#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/core/allocator.h>
#include <tendril/core/ops/gradient_norm.h>
#include <tendril/core/threads.h>
#include <tendril/optim/clip.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using namespace tendril;

namespace {

Tensor with_gradient(const std::vector<double>& gradient, DType dtype = f32) {
  const Shape shape = {static_cast<int64_t>(gradient.size())};
  Tensor x = zeros(shape, dtype);
  x.requires_grad_();
  Tensor g = Tensor::empty(shape, dtype);
  copy_(g, Tensor::from(gradient, shape));
  x.set_grad(g);
  return x;
}

}  // namespace

TEST_SUITE("clip_grad_norm") {
  TEST_CASE("the norm of all gradients together, and their scaling") {
    const std::vector<Tensor> parameters = {with_gradient({3, 4}), with_gradient({12}), zeros({5})};
    CHECK(optim::grad_norm(parameters) == 13.0);
    CHECK(optim::clip_grad_norm(parameters, 1.0) == 13.0);
    // factor 1 / 13.000001
    CHECK(parameters[0].grad().to_vector<float>()[0] ==
          doctest::Approx(3 * 0.0769230710).epsilon(1e-6));
    CHECK(parameters[1].grad().to_vector<float>()[0] ==
          doctest::Approx(12 * 0.0769230710).epsilon(1e-6));
    CHECK(optim::grad_norm(parameters) == doctest::Approx(1.0).epsilon(1e-6));
  }

  TEST_CASE("small gradients are not touched") {
    const std::vector<Tensor> parameters = {with_gradient({0.3, 0.4})};
    CHECK(optim::clip_grad_norm(parameters, 1.0) == doctest::Approx(0.5));
    CHECK(parameters[0].grad().to_vector<float>() == std::vector<float>{0.3f, 0.4f});
    CHECK(optim::clip_grad_norm({}, 1.0) == 0.0);
  }

  TEST_CASE("the infinity norm") {
    const std::vector<Tensor> parameters = {with_gradient({-3, 2}), with_gradient({1})};
    CHECK(optim::clip_grad_norm(parameters, 1.5, {.norm_type = INFINITY}) == 3.0);
    CHECK(parameters[0].grad().to_vector<float>()[0] == doctest::Approx(-1.5).epsilon(1e-5));
    CHECK_THROWS_AS(optim::grad_norm(parameters, 3.0), Error);
  }

  TEST_CASE("a gradient that is not finite is reported and left alone") {
    for (const double bad : {static_cast<double>(INFINITY), static_cast<double>(NAN)}) {
      const std::vector<Tensor> parameters = {with_gradient({bad, 1}), with_gradient({2})};
      CHECK(!std::isfinite(optim::clip_grad_norm(parameters, 1.0)));
      CHECK(!std::isfinite(optim::clip_grad_norm(parameters, 1.0, {.norm_type = INFINITY})));
      CHECK(parameters[1].grad().to_vector<float>()[0] == 2.0f);
      CHECK_THROWS_AS(optim::clip_grad_norm(parameters, 1.0, {.error_if_nonfinite = true}), Error);
    }
    CHECK_THROWS_AS(optim::clip_grad_norm({}, 0.0), Error);
    CHECK_THROWS_AS(optim::clip_grad_norm({}, NAN), Error);
  }

  TEST_CASE("the norm as a tensor, for steps that do not wait") {
    const std::vector<Tensor> parameters = {with_gradient({3, 4}), with_gradient({12}, bf16)};
    const uint32_t version = parameters[0].grad().storage()->version();
    const Tensor norm = optim::clip_grad_norm_async(parameters, 1.0);
    CHECK(norm.dtype() == f64);
    CHECK(norm.rank() == 0);
    CHECK(norm.item<double>() == 13.0);
    CHECK(optim::grad_norm(parameters) == doctest::Approx(1.0).epsilon(1e-3));
    CHECK(parameters[0].grad().storage()->version() != version);
    CHECK(optim::clip_grad_norm_async({}, 1.0).item<double>() == 0.0);
    CHECK(optim::clip_grad_norm_async(parameters, 1.0, INFINITY).item<double>() ==
          doctest::Approx(12.0 / 13.0).epsilon(1e-2));
  }

  TEST_CASE("a gradient of any layout is scaled where it lies") {
    const Tensor memory = Tensor::from<float>({1, 2, 3, 4, 5, 6, 7, 8}, {8});
    const Tensor turned = Tensor::view(memory.storage(), 0, {2, 2}, {1, 2}, f32);
    const Tensor sparse = Tensor::view(memory.storage(), 5, {2}, {2}, f32);
    const std::vector<Tensor> both = {turned, sparse};
    const Tensor norm = ops::norm_of_all(both, 2.0);
    CHECK(norm.item<double>() == doctest::Approx(std::sqrt(1 + 4 + 9 + 16 + 36 + 64.0)));
    ops::clip_all(both, full({}, 2.0, f64), 1.0);  // halves all, but for 1e-6
    const std::vector<float> values = memory.to_vector<float>();
    for (const int i : {0, 1, 2, 3, 5, 7})
      CHECK(values[i] == doctest::Approx(0.5 * (i + 1)).epsilon(1e-5));
    CHECK(values[4] == 5.0f);
    CHECK(values[6] == 7.0f);
  }

  TEST_CASE("a tensor listed twice counts once") {
    const Tensor p = with_gradient({3, 4});
    CHECK(optim::grad_norm({p, p}) == 5.0);
  }

  TEST_CASE("sums are in double, over every element, and the same for any number of threads") {
    const int64_t count = 100003;
    const Tensor x = full({count}, 0.1);
    const double expected = static_cast<double>(0.1f) * 0.1f * count;
    CHECK(ops::sum_of_squares(x) == doctest::Approx(expected).epsilon(1e-12));
    const int before = num_threads();
    const Tensor noise = randn({count}, f32, RandomKey{1, 0, Stream::noise});
    set_num_threads(1);
    const double alone = ops::sum_of_squares(noise);
    set_num_threads(4);
    CHECK(ops::sum_of_squares(noise) == alone);
    set_num_threads(before);
    CHECK(ops::sum_of_squares(zeros({0})) == 0.0);
    CHECK(ops::largest_magnitude(zeros({0})) == 0.0);
  }

  TEST_CASE("every dtype and layout") {
    for (const DType dtype : {f64, f32, bf16, f16}) {
      const Tensor x = with_gradient({1, -2, 3, -4, 5, -6}, dtype).grad();
      CHECK(ops::sum_of_squares(x) == 91.0);
      CHECK(ops::largest_magnitude(x) == 6.0);
      // transposed (2, 3), every second element, and one element repeated
      CHECK(ops::sum_of_squares(Tensor::view(x.storage(), 0, {3, 2}, {1, 3}, dtype)) == 91.0);
      CHECK(ops::sum_of_squares(Tensor::view(x.storage(), 0, {3}, {2}, dtype)) == 35.0);
      CHECK(ops::sum_of_squares(Tensor::view(x.storage(), 1, {4}, {0}, dtype)) == 16.0);
      CHECK(ops::sum_of_squares(Tensor::view(x.storage(), 5, {6}, {-1}, dtype)) == 91.0);
      CHECK(ops::largest_magnitude(Tensor::view(x.storage(), 0, {3}, {2}, dtype)) == 5.0);
    }
    CHECK_THROWS_AS(ops::sum_of_squares(zeros({2}, i64)), Error);
  }

  TEST_CASE("clip_grad_value limits each element") {
    for (const DType dtype : {f64, f32, bf16}) {
      const Tensor x = with_gradient({-5, 0.25, 2, NAN, INFINITY, -0.5}, dtype);
      optim::clip_grad_value({x, zeros({3}), x}, 0.5);
      const std::vector<double> g = x.grad().to_vector<double>();
      CHECK(std::isnan(g[3]));
      CHECK(std::vector<double>{g[0], g[1], g[2], g[4], g[5]} ==
            std::vector<double>{-0.5, 0.25, 0.5, 0.5, -0.5});
    }
    const Tensor x = with_gradient({1});
    const uint32_t version = x.grad().storage()->version();
    optim::clip_grad_value({x}, 0.5);
    CHECK(x.grad().storage()->version() != version);  // a graph that has saved it must notice
    for (const double bad : {0.0, -1.0, static_cast<double>(NAN)})
      CHECK_THROWS_AS(optim::clip_grad_value({x}, bad), Error);
  }

  TEST_CASE("clip_grad_value of a large gradient, in any layout, needs little memory") {
    Tensor x = zeros({3000, 2000}).requires_grad_();
    x.set_grad(transpose(rand({2000, 3000}, f32, RandomKey{.seed = 4})));
    const std::vector<float> before = x.grad().to_vector<float>();
    reset_peak_memory_stats();
    const int64_t held = memory_stats().current_bytes;
    optim::clip_grad_value({x}, 0.5);
    CHECK(memory_stats().peak_bytes - held <= int64_t{9} << 20);  // of 24 MB
    const std::vector<float> after = x.grad().to_vector<float>();
    int wrong = 0, clipped = 0;
    for (size_t i = 0; i < before.size(); ++i) {
      wrong += after[i] != std::clamp(before[i], -0.5f, 0.5f);
      clipped += after[i] != before[i];
    }
    CHECK(wrong == 0);
    CHECK(clipped > 2900000);
  }
}
