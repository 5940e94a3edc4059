// GaLore with moments in 8 bits: each step against the rule written out with plain operations, runs
// against those of the f32 moments, and the state.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/quantize_blockwise.h>
#include <tendril/core/threads.h>
#include <tendril/optim/adamw_8bit.h>
#include <tendril/optim/galore_adamw_8bit.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "golden_values.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;
using ops::CodeMap;
using optim::GaloreAdamW8bit;
using optim::GaloreAdamW8bitOptions;
using optim::ProjectionOptions;

namespace {

Tensor noise(const Shape& shape, uint64_t position, DType dtype = f32) {
  return randn(shape, dtype, RandomKey{.seed = 5, .position = position});
}

// A gradient whose directions last, as those of training do, with noise.
Tensor gradient_of(const Shape& shape, uint64_t step) {
  const Tensor lasting = matmul(noise({shape[0], 4}, 1), noise({4, shape[1]}, 2));
  return lasting * (1.0 + 0.2 * std::sin(static_cast<double>(step))) + noise(shape, 100 + step);
}

void step_with(optim::Optimizer& optimizer, Tensor& parameter, const Tensor& gradient) {
  parameter.set_grad(to(gradient, parameter.dtype()));
  optimizer.step();
}

Tensor moment(const StateDict& state, const std::string& name, CodeMap map) {
  return ops::dequantize_blockwise({state.at(name + ".codes"), state.at(name + ".absmax")}, map);
}

double length(const Tensor& x) { return std::sqrt(sum(square(to(x, f64))).item<double>()); }

GaloreAdamW8bitOptions projected(const ProjectionOptions& projection) {
  return {.lr = 0.01, .quantization = {.min_size = 256}, .projection = projection};
}

}  // namespace

TEST_SUITE("galore_8bit") {
  TEST_CASE("20 steps of the rule, on both orientations") {
    for (const Shape& shape : {Shape{40, 100}, Shape{100, 40}}) {
      const bool tall = shape[0] > shape[1];
      const ProjectionOptions projection = {.rank = 8, .update_proj_gap = 6, .scale = 0.5};
      GaloreAdamW8bitOptions options = projected(projection);
      options.beta1 = 0.8;
      options.weight_decay = 0.1;
      Tensor p = noise(shape, 3).requires_grad_();
      GaloreAdamW8bit optimizer({NamedTensor{"p", p}}, options);
      const Shape small = tall ? Shape{100, 8} : Shape{8, 100};
      Tensor m = zeros(small), v = zeros(small);
      for (int step = 1; step <= 20; ++step) {
        const Tensor before = clone(p.detach()),
                     g = gradient_of(shape, static_cast<uint64_t>(step));
        step_with(optimizer, p, g);
        const StateDict state = optimizer.state_dict();
        const Tensor basis = state.at(tall ? "p.right_basis" : "p.left_basis");
        const Tensor r = tall ? matmul(g, transpose(basis)) : matmul(transpose(basis), g);
        m = m * 0.8 + r * 0.2;
        v = v * 0.999 + square(r) * 0.001;
        const double c1 = 1 - std::pow(0.8, step), root2 = std::sqrt(1 - std::pow(0.999, step));
        const Tensor n = m / (sqrt(v) + root2 * 1e-8) * (0.01 * root2 / c1 * 0.5);
        Tensor expected = before - (tall ? matmul(n, basis) : matmul(basis, n));
        expected = expected - expected * (0.01 * 0.1);
        CHECK(golden_deviation(p.detach(), expected) <= 1e-6);
        // The next step starts from what the codes say, which is near the exact moments.
        const Tensor kept_m = moment(state, "p.exp_avg", CodeMap::with_sign);
        const Tensor kept_v = moment(state, "p.exp_avg_sq", CodeMap::without_sign);
        CHECK(kept_m.shape() == small);
        CHECK(length(kept_m - m) <= 0.02 * length(m));
        CHECK(length(kept_v - v) <= 0.02 * length(v));
        m = kept_m;
        v = kept_v;
      }
    }
  }

  TEST_CASE("a run stays beside that of f32 moments") {
    const Shape shape = {64, 96};
    const ProjectionOptions projection = {.rank = 8, .update_proj_gap = 10};
    Tensor p = noise(shape, 4).requires_grad_(), q = clone(p.detach()).requires_grad_();
    const Tensor start = clone(p.detach());
    GaloreAdamW8bit eight({NamedTensor{"p", p}}, projected(projection));
    // eps stands elsewhere, but is too small to be seen.
    optim::GaloreAdamW exact({NamedTensor{"p", q}},
                             {.lr = 0.01, .eps = 1e-8, .projection = projection});
    for (uint64_t step = 0; step < 20; ++step) {
      step_with(eight, p, gradient_of(shape, step));
      step_with(exact, q, gradient_of(shape, step));
      // The first step is that of the exact moments.
      if (step == 0) CHECK(golden_deviation(p.detach(), q.detach()) <= 1e-6);
    }
    const double apart = length(p.detach() - q.detach()), way = length(q.detach() - start);
    CHECK(apart > 0.0);
    CHECK(apart <= 0.02 * way);
  }

  TEST_CASE("with wide moments it is GaLore's AdamW") {
    const ProjectionOptions projection = {.rank = 3, .update_proj_gap = 5};
    for (const DType dtype : {f32, f64}) {
      Tensor p = noise({20, 30}, 5, dtype).requires_grad_(), q = clone(p.detach()).requires_grad_();
      GaloreAdamW8bitOptions options = projected(projection);
      options.eps = 0.0;
      options.weight_decay = 0.1;
      // f64 parameters have wide moments whatever their size; 3 x 30 are few.
      if (dtype == f64) options.quantization.min_size = 0;
      GaloreAdamW8bit eight({NamedTensor{"p", p}}, options);
      optim::GaloreAdamW exact(
          {NamedTensor{"p", q}},
          {.lr = 0.01, .eps = 0.0, .weight_decay = 0.1, .projection = projection});
      for (uint64_t step = 0; step < 20; ++step) {
        step_with(eight, p, gradient_of({20, 30}, step));
        step_with(exact, q, gradient_of({20, 30}, step));
      }
      CHECK(golden_deviation(p.detach(), q.detach()) <= (dtype == f64 ? 1e-12 : 1e-6));
      CHECK(eight.state_dict().at("p.exp_avg").dtype() == dtype);
    }
  }

  TEST_CASE("without a projection it is AdamW8bit, to the bit") {
    for (const DType dtype : {f32, bf16}) {
      Tensor p = noise({40, 50}, 6, dtype).requires_grad_(), q = clone(p.detach()).requires_grad_();
      GaloreAdamW8bit one({NamedTensor{"p", p}},
                          {.lr = 0.01, .weight_decay = 0.1, .quantization = {.min_size = 256}});
      optim::AdamW8bit other({NamedTensor{"p", q}},
                             {.lr = 0.01, .weight_decay = 0.1, .quantization = {.min_size = 256}});
      for (uint64_t step = 0; step < 5; ++step) {
        step_with(one, p, noise({40, 50}, 300 + step));
        step_with(other, q, noise({40, 50}, 300 + step));
      }
      CHECK(numbers(p.detach()) == numbers(q.detach()));
      const StateDict a = one.state_dict(), b = other.state_dict();
      REQUIRE(a.size() == b.size());
      for (const auto& [name, tensor] : a) CHECK(numbers(tensor) == numbers(b.at(name)));
    }
  }

  TEST_CASE("a byte per moment, and the size is known beforehand") {
    // 100 x 40 of rank 8: two moments of 800 codes in 4 blocks, a basis of 8 x 40 in f32.
    Tensor p = noise({100, 40}, 7).requires_grad_(), few = noise({9, 9}, 8).requires_grad_();
    Tensor kept = noise({100, 40}, 9).requires_grad_();
    GaloreAdamW8bitOptions options = projected({.rank = 8});
    options.quantization.keep_32bit = [](const std::string& name) { return name == "kept"; };
    GaloreAdamW8bit optimizer({{"p", p}, {"few", few}, {"kept", kept}}, options);
    for (Tensor* parameter : {&p, &few, &kept}) parameter->set_grad(noise(parameter->shape(), 10));
    optimizer.step();
    const StateDict state = optimizer.state_dict();
    CHECK(state.at("p.exp_avg.codes").dtype() == u8);
    CHECK(state.at("p.exp_avg.codes").shape() == Shape{100, 8});
    CHECK(state.at("p.exp_avg_sq.absmax").shape() == Shape{4});
    CHECK(state.at("few.exp_avg").shape() == Shape{9, 8});
    CHECK(state.at("kept.exp_avg").dtype() == f32);
    const int64_t narrow = 2 * (800 + 4 * 4) + 4 * 8 * 40;
    CHECK(optimizer.state_bytes() == narrow + 4 * (2 * 9 * 8 + 8 * 9) + 4 * (2 * 800 + 8 * 40));
  }

  TEST_CASE("a saved state goes on with the same bits, whatever the threads") {
    for (const DType dtype : {f32, bf16, f16}) {
      Tensor p = noise({60, 90}, 11, dtype).requires_grad_();
      const GaloreAdamW8bitOptions options = projected({.rank = 8, .update_proj_gap = 4});
      GaloreAdamW8bit whole({NamedTensor{"p", p}}, options);
      const auto advance = [&](optim::Optimizer& optimizer, Tensor& x, uint64_t from, uint64_t to) {
        for (uint64_t step = from; step < to; ++step)
          step_with(optimizer, x, gradient_of({60, 90}, step));
      };
      advance(whole, p, 0, 5);
      StateDict saved;
      for (const auto& [name, tensor] : whole.state_dict()) saved[name] = clone(tensor);
      Tensor q = clone(p.detach()).requires_grad_();
      advance(whole, p, 5, 10);
      GaloreAdamW8bit resumed({NamedTensor{"p", q}}, options);
      resumed.load_state_dict(saved);
      const int before = num_threads();
      set_num_threads(1);
      advance(resumed, q, 5, 10);
      set_num_threads(before);
      CHECK(numbers(q.detach()) == numbers(p.detach()));
      CHECK((dtype == f32) != saved.contains("p.master"));
      CHECK(saved.contains("p.exp_avg_sq.codes"));
    }
  }

  TEST_CASE("options that cannot be are refused") {
    Tensor p = noise({4, 4}, 12).requires_grad_(), bias = noise({4}, 13).requires_grad_();
    const auto make = [](const Tensor& parameter, const GaloreAdamW8bitOptions& options) {
      return message_of([&] { GaloreAdamW8bit({NamedTensor{"w", parameter}}, options); });
    };
    CHECK(contains(make(p, {.projection = {{.rank = 0}}}), "rank"));
    CHECK(contains(make(bias, {.projection = {{.rank = 2}}}), "\"w\" is no matrix"));
    CHECK(contains(make(p, {.quantization = {.min_size = -1}}), "min_size"));
    CHECK(contains(make(p, {.beta2 = 1.0}), "betas"));
    CHECK(make(p, {.projection = {{.rank = 2}}}) == "");
  }
}
