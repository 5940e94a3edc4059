#include <doctest/doctest.h>
#include <tendril/autograd/autocast.h>
#include <tendril/autograd/functions.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/clip.h>
#include <tendril/optim/grad_scaler.h>
#include <tendril/optim/sgd.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Tensor weights(std::vector<float> values, DType dtype = f32) {
  const int64_t count = static_cast<int64_t>(values.size());
  return to(Tensor::from(values, {count}), dtype).requires_grad_();
}

void set_gradient(Tensor& parameter, double value) {
  parameter.set_grad(full(parameter.shape(), value, parameter.dtype()));
}

// One whole step of the scaler in which the scaled gradient is `value`; whether it updated.
bool advance(optim::GradScaler& scaler, optim::Optimizer& optimizer, Tensor& p, double value) {
  set_gradient(p, value);
  const bool updated = scaler.step(optimizer);
  scaler.update();
  return updated;
}

}  // namespace

TEST_SUITE("grad_scaler") {
  TEST_CASE("the scale halves after an overflow and doubles after an interval without") {
    Tensor p = weights({1.0f});
    optim::AdamW optimizer({NamedTensor{"p", p}}, {.lr = 0.1});
    optim::GradScaler scaler({.init_scale = 8.0, .growth_interval = 3});
    CHECK(advance(scaler, optimizer, p, 4.0));
    const std::vector<float> before = p.to_vector<float>();
    for (const double bad : {kInfinity, -kInfinity, std::nan("")}) {
      const double scale = scaler.scale();
      CHECK(!advance(scaler, optimizer, p, bad));
      CHECK(scaler.scale() == scale / 2);
    }
    CHECK(p.to_vector<float>() == before);
    CHECK(optimizer.state_dict().at("p.step").item<int64_t>() == 1);
    std::vector<double> scales;
    for (int i = 0; i < 7; ++i) {
      CHECK(advance(scaler, optimizer, p, 1.0));
      scales.push_back(scaler.scale());
    }
    CHECK(scales == std::vector<double>{1, 1, 2, 2, 2, 4, 4});
    CHECK(optimizer.state_dict().at("p.step").item<int64_t>() == 8);
  }

  TEST_CASE("PyTorch's defaults, and no growth beyond f32") {
    optim::GradScaler scaler;
    CHECK(
        scaler.state().dump() ==
        R"({"scale":65536,"growth_factor":2,"backoff_factor":0.5,"growth_interval":2000,"_growth_tracker":0})");
    Tensor p = weights({1.0f});
    optim::Sgd optimizer({NamedTensor{"p", p}}, {.lr = 0.1});
    optim::GradScaler large({.init_scale = 2e38, .growth_interval = 1});
    advance(large, optimizer, p, 1.0);
    CHECK(large.scale() == static_cast<double>(2e38f));
  }

  TEST_CASE("gradients are unscaled once, before clipping, and the step sees them so") {
    Tensor p = weights({1.0f, 1.0f}), q = weights({1.0f});
    optim::Sgd optimizer({NamedTensor{"p", p}, NamedTensor{"q", q}}, {.lr = 1.0});
    optim::GradScaler scaler({.init_scale = 1024.0});
    p.set_grad(Tensor::from<float>({3072.0f, 4096.0f}, {2}));  // q has none
    scaler.unscale(optimizer);
    scaler.unscale(optimizer);
    CHECK(p.grad().to_vector<float>() == std::vector<float>{3.0f, 4.0f});
    CHECK(!scaler.found_inf());
    CHECK(optim::clip_grad_norm(optimizer.parameters(), 1e9) == 5.0);
    CHECK(scaler.step(optimizer));
    CHECK(p.to_vector<float>() == std::vector<float>{-2.0f, -3.0f});
    CHECK(contains(message_of([&] { scaler.step(optimizer); }), "stepped already"));
    CHECK(contains(message_of([&] { scaler.unscale(optimizer); }), "before step()"));
    scaler.update();
    set_gradient(p, 1024.0);
    scaler.unscale(optimizer);
    CHECK(p.grad().to_vector<float>() == std::vector<float>{1.0f, 1.0f});
  }

  TEST_CASE("several optimizers: each skips for itself, and one overflow lowers the scale") {
    Tensor p = weights({1.0f}), q = weights({1.0f});
    optim::Sgd first({NamedTensor{"p", p}}, {.lr = 1.0}),
        second({NamedTensor{"q", q}}, {.lr = 1.0});
    optim::GradScaler scaler({.init_scale = 4.0});
    set_gradient(p, kInfinity);
    set_gradient(q, 4.0);
    CHECK(!scaler.step(first));
    CHECK(scaler.step(second));
    CHECK(scaler.found_inf());
    scaler.update();
    CHECK(!scaler.found_inf());
    CHECK(scaler.scale() == 2.0);
    CHECK(p.item<float>() == 1.0f);
    CHECK(q.item<float>() == 0.0f);
  }

  TEST_CASE("products in f16: the first scale overflows, the next gives exact gradients") {
    const Tensor x = Tensor::from<float>({1.0f, 2.0f}, {1, 2});
    Tensor w = Tensor::from<float>({0.5f, 0.25f}, {2, 1}).requires_grad_();
    optim::Sgd optimizer({NamedTensor{"w", w}}, {.lr = 0.125});
    optim::GradScaler scaler;
    const auto backward = [&](double weight) {
      optimizer.zero_grad();
      const AutocastGuard autocast(f16);
      scaler.scale(sum(matmul(x, w)) * weight).backward();
    };
    backward(1.0);  // 65536 is more than f16 can hold
    CHECK(!scaler.step(optimizer));
    CHECK(scaler.found_inf());
    scaler.update();
    CHECK(scaler.scale() == 32768.0);
    CHECK(w.to_vector<float>() == std::vector<float>{0.5f, 0.25f});
    backward(1.0);
    CHECK(scaler.step(optimizer));
    CHECK(w.to_vector<float>() == std::vector<float>{0.375f, 0.0f});
    scaler.update();
    backward(1e-9);  // without a scale f16 would make it 0
    scaler.unscale(optimizer);
    CHECK(w.grad().to_vector<float>()[0] == doctest::Approx(1e-9).epsilon(2e-3));
    CHECK(w.grad().to_vector<float>()[1] == doctest::Approx(2e-9).epsilon(2e-3));
  }

  TEST_CASE("a 16-bit loss is scaled in f32") {
    const Tensor loss = Tensor::from<float>({3.0f}, {});
    optim::GradScaler scaler;
    for (const DType dtype : {f16, bf16, f32, f64}) {
      const Tensor scaled = scaler.scale(to(loss, dtype));
      CHECK(scaled.dtype() == (dtype == f64 ? f64 : f32));
      CHECK(scaled.item<double>() == 3.0 * 65536.0);
    }
  }

  TEST_CASE("state continues exactly") {
    Tensor p = weights({1.0f});
    optim::Sgd optimizer({NamedTensor{"p", p}}, {.lr = 0.1});
    optim::GradScaler scaler(
        {.init_scale = 3.7, .growth_factor = 1.5, .backoff_factor = 0.3, .growth_interval = 2});
    advance(scaler, optimizer, p, kInfinity);
    advance(scaler, optimizer, p, 1.0);
    optim::GradScaler resumed;
    resumed.load_state(Json::parse(scaler.state().dump(), "a checkpoint"));
    CHECK(resumed.scale() == scaler.scale());
    for (optim::GradScaler* each : {&scaler, &resumed}) advance(*each, optimizer, p, 1.0);
    CHECK(resumed.scale() == scaler.scale());
    CHECK(resumed.scale() == doctest::Approx(3.7 * 0.3 * 1.5));
    CHECK(resumed.state().dump() == scaler.state().dump());
  }

  TEST_CASE("mistakes are an Error") {
    CHECK_THROWS_AS(optim::GradScaler({.init_scale = 0.0}), Error);
    CHECK_THROWS_AS(optim::GradScaler({.init_scale = 1e39}), Error);
    CHECK_THROWS_AS(optim::GradScaler({.growth_factor = 1.0}), Error);
    CHECK_THROWS_AS(optim::GradScaler({.backoff_factor = 1.0}), Error);
    CHECK_THROWS_AS(optim::GradScaler({.growth_interval = 0}), Error);
    optim::GradScaler scaler;
    CHECK(contains(message_of([&] { scaler.update(); }), "no gradients have been unscaled"));
    Tensor p = weights({1.0f}, f16);
    optim::Sgd optimizer({NamedTensor{"p", p}}, {.lr = 0.1});
    set_gradient(p, 1.0);
    CHECK(contains(message_of([&] { scaler.unscale(optimizer); }), "AutocastGuard(f16)"));
    Json state = scaler.state();
    state.set("_growth_tracker", 2000);
    CHECK_THROWS_AS(scaler.load_state(state), Error);
    CHECK_THROWS_AS(scaler.load_state(Json::object()), Error);
    CHECK(scaler.scale() == 65536.0);
  }
}
