// bf16 parameters without f32 masters, rounded at random.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/core/creation.h>
#include <tendril/core/threads.h>
#include <tendril/optim/adamw.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

optim::AdamWOptions rounding(double lr) {
  return {.lr = lr, .eps = 0.0, .weight_decay = 0.0, .stochastic_rounding = true};
}

// A parameter full of `value`; with eps 0 and a constant gradient of 1, each step takes lr away.
Tensor filled(int64_t size, double value) { return full({size}, value, bf16).requires_grad_(); }

void descend(optim::Optimizer& optimizer, Tensor& parameter, int64_t steps, double gradient = 1.0) {
  for (int64_t i = 0; i < steps; ++i) {
    parameter.set_grad(full(parameter.shape(), gradient, bf16));
    optimizer.step();
  }
}

double mean_of(const std::vector<double>& values) {
  double sum = 0.0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

}  // namespace

TEST_SUITE("stochastic_rounding") {
  TEST_CASE("rounding is unbiased: 1 + 2^-9 becomes 1 + 2^-7 once in four") {
    Tensor p = filled(100000, 1.0);
    optim::AdamW optimizer({NamedTensor{"p", p}}, rounding(0x1p-9));
    descend(optimizer, p, 1, -1.0);
    const std::vector<double> values = p.to_vector<double>();
    CHECK(std::set<double>(values.begin(), values.end()) == std::set<double>{1.0, 1.0078125});
    CHECK(std::abs(mean_of(values) - 1.001953125) <= 3.3e-5);  // three standard deviations
  }

  TEST_CASE("small steps add up, which to the nearest are lost") {
    // 100 steps of 1e-3 from 1: below 1 the spacing is 2^-8, and the nearest is always 1.
    Tensor p = filled(1, 1.0);
    for (int i = 0; i < 100; ++i) p = to(to(p.detach(), f32) - 1e-3, bf16);
    CHECK(p.item<double>() == 1.0);

    Tensor moved = filled(4096, 1.0);
    optim::AdamW optimizer({NamedTensor{"p", moved}}, rounding(1e-3));
    descend(optimizer, moved, 100);
    const std::vector<double> values = moved.to_vector<double>();
    for (const double value : values) CHECK(std::abs(value - 0.9) <= 0.09);
    CHECK(std::abs(mean_of(values) - 0.9) <= 0.05 / 64.0);  // 3 sigma of one are .05
  }

  TEST_CASE("no master is kept, and f32 parameters are not concerned") {
    Tensor narrow = filled(8, 1.0), wide = ones({8}, f32).requires_grad_();
    Tensor plain = ones({8}, f32).requires_grad_();
    optim::AdamW optimizer({{"narrow", narrow}, {"wide", wide}}, rounding(1e-3));
    optim::AdamW reference({NamedTensor{"plain", plain}},
                           {.lr = 1e-3, .eps = 0.0, .weight_decay = 0.0});
    for (Tensor* p : {&wide, &plain}) p->set_grad(ones({8}));
    descend(optimizer, narrow, 3);
    for (int i = 0; i < 3; ++i) reference.step();
    CHECK(wide.to_vector<float>() == plain.to_vector<float>());
    const StateDict state = optimizer.state_dict();
    CHECK(state.count("narrow.exp_avg") == 1);
    CHECK(state.count("narrow.master") == 0);
    CHECK(state.count("wide.master") == 0);
  }

  TEST_CASE("the same bits on any number of threads and after a resume, other ones elsewhere") {
    const Tensor start = randn({70001}, f32, RandomKey{.seed = 1});
    const Tensor gradient = randn({70001}, f32, RandomKey{.seed = 2});
    const auto fresh = [&] { return to(start, bf16).requires_grad_(); };
    const auto advance = [&](optim::AdamW& optimizer, Tensor& p, int64_t steps) {
      for (int64_t i = 0; i < steps; ++i) {
        p.set_grad(to(gradient, bf16));
        optimizer.step();
      }
    };
    const auto run = [&](int threads, const char* name, uint64_t seed) {
      const int before = num_threads();
      set_num_threads(threads);
      Tensor p = fresh();
      optim::AdamWOptions options = rounding(1e-3);
      options.rounding_seed = seed;
      optim::AdamW optimizer({NamedTensor{name, p}}, options);
      advance(optimizer, p, 4);
      set_num_threads(before);
      return p.to_vector<float>();
    };
    const std::vector<float> expected = run(1, "p", 0);
    CHECK(run(2, "p", 0) == expected);
    CHECK(run(3, "p", 0) == expected);
    CHECK(run(1, "q", 0) != expected);
    CHECK(run(1, "p", 1) != expected);

    Tensor p = fresh();
    optim::AdamW first({NamedTensor{"p", p}}, rounding(1e-3));
    advance(first, p, 2);
    Tensor continued = clone(p.detach()).requires_grad_();
    optim::AdamW second({NamedTensor{"p", continued}}, rounding(1e-3));
    second.load_state_dict(first.state_dict());
    advance(second, continued, 2);
    CHECK(continued.to_vector<float>() == expected);
  }

  TEST_CASE("the largest number does not become infinite, and NaN stays NaN") {
    const double largest = std::numeric_limits<float>::max() / (2.0 - 0x1p-23) * (2.0 - 0x1p-7);
    Tensor p = filled(1024, largest);
    optim::AdamW optimizer({NamedTensor{"p", p}}, rounding(largest * 0x1p-10));
    descend(optimizer, p, 1, -1.0);
    for (const double value : p.to_vector<double>()) CHECK(value == largest);
    descend(optimizer, p, 1, std::numeric_limits<double>::quiet_NaN());
    for (const double value : p.to_vector<double>()) CHECK(std::isnan(value));
  }

  TEST_CASE("f16 parameters are refused") {
    Tensor p = ones({4}, f16).requires_grad_();
    p.set_grad(ones({4}, f16));
    optim::AdamW optimizer({NamedTensor{"p", p}}, rounding(1e-3));
    CHECK(contains(message_of([&] { optimizer.step(); }), "bf16"));
  }
}
