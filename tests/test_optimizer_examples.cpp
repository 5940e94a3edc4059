// Small examples worked out by hand or elsewhere, and what is peculiar to single optimizers.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/creation.h>
#include <tendril/optim/adafactor.h>
#include <tendril/optim/muon.h>
#include <tendril/optim/schedule_free.h>
#include <tendril/optim/stable_adamw.h>

#include <cmath>
#include <string>
#include <vector>

#include "golden_values.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

Tensor matrix(std::vector<double> values, const Shape& shape, DType dtype = f64) {
  return to(Tensor::from(values, shape), dtype);
}

Tensor trained(std::vector<double> values, const Shape& shape, DType dtype = f64) {
  return matrix(std::move(values), shape, dtype).requires_grad_();
}

void step_with(optim::Optimizer& optimizer, Tensor& parameter, const Tensor& gradient) {
  parameter.set_grad(to(gradient, parameter.dtype()));
  optimizer.step();
}

}  // namespace

TEST_SUITE("optimizer_examples") {
  TEST_CASE("Adafactor's first step on a matrix") {
    const Tensor gradient = matrix({.1, -.2, .3, .4}, {2, 2});
    const std::vector<double> expected = {.99225403, 2.01095445, 2.98960770, 3.99020204};
    for (const DType dtype : {f64, f32}) {
      Tensor p = trained({1, 2, 3, 4}, {2, 2}, dtype);
      optim::Adafactor optimizer({NamedTensor{"p", p}},
                                 {.lr = .01, .scale_parameter = false, .relative_step = false});
      step_with(optimizer, p, gradient);
      CHECK(golden_deviation(p.detach(), matrix(expected, {2, 2})) <= (dtype == f64 ? 5e-9 : 1e-7));
    }
    // The same step with a rate relative to the parameter's size.
    Tensor p = trained({1, 2, 3, 4}, {2, 2});
    optim::Adafactor optimizer({NamedTensor{"p", p}}, {.lr = .01, .relative_step = false});
    step_with(optimizer, p, gradient);
    CHECK(golden_deviation(p.detach(), matrix({.97878680, 2.03, 2.97153950, 3.97316718}, {2, 2})) <=
          5e-9);
  }

  TEST_CASE("Adafactor keeps rows and columns only, also of stacks of matrices") {
    Tensor p = trained(std::vector<double>(24, 1.0), {2, 3, 4});
    optim::Adafactor optimizer({NamedTensor{"p", p}}, {});
    const Tensor gradient = randn({2, 3, 4}, f64, RandomKey{.seed = 3});
    step_with(optimizer, p, gradient);
    const StateDict state = optimizer.state_dict();
    CHECK(state.size() == 3);
    CHECK(state.at("p.exp_avg_sq_row").shape() == Shape{2, 3});
    CHECK(state.at("p.exp_avg_sq_col").shape() == Shape{2, 4});
    CHECK(golden_deviation(state.at("p.exp_avg_sq_row"), mean(square(gradient), {-1})) <= 1e-14);
    CHECK(golden_deviation(state.at("p.exp_avg_sq_col"), mean(square(gradient), {-2})) <= 1e-14);
  }

  TEST_CASE("Adafactor refuses options that contradict each other") {
    Tensor p = trained({1.0}, {1});
    const auto make = [&](const optim::AdafactorOptions& options) {
      return message_of([&] { optim::Adafactor({NamedTensor{"p", p}}, options); });
    };
    CHECK(contains(make({.lr = 0.1}), "relative_step"));
    CHECK(contains(make({.lr = 0.1, .relative_step = false, .warmup_init = true}), "warmup_init"));
    CHECK(contains(make({.clip_threshold = 0.0}), "clip_threshold"));
    CHECK(contains(make({.decay_rate = 0.8}), "decay_rate"));
    CHECK(make({}) == "");
  }

  TEST_CASE("StableAdamW's first step has size lr, and a sudden gradient is damped") {
    Tensor p = trained({1.0, 1.0}, {2});
    optim::StableAdamW optimizer({NamedTensor{"p", p}}, {.lr = 0.125, .weight_decay = 0.0});
    step_with(optimizer, p, matrix({3.0, -2.0}, {2}));  // m = g, v = g^2: the ratio is 1
    CHECK(golden_deviation(p.detach(), matrix({0.875, 1.125}, {2})) <= 1e-6);
    const std::vector<double> before = p.to_vector<double>();
    // The second step with the decays that make both averages unbiased.
    step_with(optimizer, p, matrix({300.0, -200.0}, {2}));
    const double b1 = 0.9 * 0.1 / 0.19, b2 = 0.99 * 0.01 / 0.0199;
    const double m = b1 * 3 + (1 - b1) * 300, v = b2 * 9 + (1 - b2) * 90000;
    const double size = std::sqrt(90000 / v);  // of both elements alike
    CHECK(size > 1.4);
    CHECK(std::abs(before[0] - p.to_vector<double>()[0] - 0.125 / size * m / std::sqrt(v)) <= 1e-7);
  }

  TEST_CASE("schedule-free SGD: y, z and the average x, by hand") {
    // lr 1, weights all 1, momentum 1/2: z falls by g, x is the mean of the z after each update,
    // and y = (x + z) / 2.
    Tensor p = trained({8.0}, {1});
    optim::ScheduleFreeSgd optimizer({NamedTensor{"p", p}},
                                     {.lr = 1.0, .momentum = 0.5, .weight_lr_power = 0.0});
    step_with(optimizer, p, matrix({2.0}, {1}));  // z = 6, x = 6
    CHECK(p.item<double>() == 6.0);
    step_with(optimizer, p, matrix({4.0}, {1}));  // z = 2, x = 4
    CHECK(p.item<double>() == 3.0);
    optimizer.eval();
    CHECK(p.item<double>() == 4.0);
    optimizer.eval();
    CHECK(p.item<double>() == 4.0);
    CHECK(contains(message_of([&] { step_with(optimizer, p, matrix({2.0}, {1})); }), "train()"));
    CHECK(optimizer.state_dict().at("p.step").item<int64_t>() == 2);
    optimizer.train();
    CHECK(p.item<double>() == 3.0);
    step_with(optimizer, p, matrix({-4.0}, {1}));  // z = 6, x = 14 / 3
    CHECK(p.item<double>() == doctest::Approx(16.0 / 3.0).epsilon(1e-14));
    CHECK(optimizer.state_dict().at("p.z").item<double>() == 6.0);
    CHECK(optimizer.state_dict().at("p.weight_sum").item<double>() == 3.0);
  }

  TEST_CASE("a schedule-free state that was saved after eval() knows where its parameters are") {
    for (const DType dtype : {f64, bf16}) {
      Tensor p = trained({8.0}, {1}, dtype), q = trained({0.0}, {1}, dtype);
      const optim::ScheduleFreeSgdOptions options = {.lr = 1.0, .momentum = 0.5};
      optim::ScheduleFreeSgd first({NamedTensor{"p", p}}, options),
          second({NamedTensor{"p", q}}, options);
      step_with(first, p, matrix({2.0}, {1}));
      step_with(first, p, matrix({4.0}, {1}));
      first.eval();
      second.load_state_dict(first.state_dict());
      {
        const NoGradGuard no_grad;
        copy_(q, p);
      }
      second.eval();
      CHECK(q.item<double>() == 4.0);
      second.train();
      CHECK(q.item<double>() == 3.0);
      CHECK(p.item<double>() == 4.0);
    }
  }

  TEST_CASE("without a rate a schedule-free optimizer stands still") {
    Tensor p = trained({8.0}, {1});
    optim::ScheduleFreeAdamW optimizer({NamedTensor{"p", p}}, {.lr = 0.0});
    step_with(optimizer, p, matrix({2.0}, {1}));
    CHECK(p.item<double>() == 8.0);
    optimizer.eval();
    CHECK(p.item<double>() == 8.0);
    CHECK_THROWS_AS(optim::ScheduleFreeAdamW({NamedTensor{"p", p}}, {.beta1 = 0.0}), Error);
    CHECK_THROWS_AS(optim::ScheduleFreeSgd({NamedTensor{"p", p}}, {.momentum = 1.0}), Error);
    CHECK_THROWS_AS(optim::ScheduleFreeSgd({NamedTensor{"p", p}}, {.warmup_steps = -1}), Error);
  }

  TEST_CASE("orthogonalize moves every singular value near 1") {
    struct Row {
      double before, after;
    };
    for (const Row& row :
         {Row{1, .69644}, Row{.5, .76544}, Row{.1, .71212}, Row{.01, .69892}, Row{.001, .47054}}) {
      // Another singular value makes the norm 1.
      const Tensor x = matrix({row.before, 0, 0, std::sqrt(1 - row.before * row.before)}, {2, 2});
      const Tensor y = optim::orthogonalize(x);
      CHECK(std::abs(y.to_vector<double>()[0] - row.after) <= 1e-5);
      CHECK(y.to_vector<double>()[1] == 0.0);
    }
    const Tensor y = optim::orthogonalize(matrix({3, 0, 0, 4}, {2, 2}));
    CHECK(golden_deviation(y, matrix({.722876, 0, 0, 1.119204}, {2, 2})) <= 1e-6);
    // The singular vectors stay: R x S has R y S for its result, whatever the rotations; a column
    // of zeros changes nothing, nor does transposing.
    const double c = .8, s = .6;
    const Tensor r = matrix({c, -s, s, c}, {2, 2}), q = matrix({s, c, 0, -c, s, 0}, {2, 3});
    const Tensor wide = matmul(matmul(r, matrix({3, 0, 0, 4}, {2, 2})), q);
    const Tensor expected = matmul(matmul(r, y), q);
    CHECK(max_norm_deviation(optim::orthogonalize(wide), expected) <= 1e-13);
    CHECK(max_norm_deviation(optim::orthogonalize(transpose(wide)), transpose(expected)) <= 1e-13);
    CHECK(max_norm_deviation(optim::orthogonalize(to(wide, f32)), to(expected, f32)) <= 1e-5);
    CHECK_THROWS_AS(optim::orthogonalize(zeros({3}, f64)), Error);
    CHECK(max_norm_deviation(optim::orthogonalize(zeros({2, 2}, f64)), zeros({2, 2}, f64)) == 0.0);
  }

  TEST_CASE("Muon takes convolutions as matrices and sends everything else to AdamW") {
    Tensor kernel = trained(std::vector<double>(24, 0.0), {4, 3, 2}), bias = trained({0.0}, {1});
    const Tensor gradient = randn({4, 3, 2}, f64, RandomKey{.seed = 5});
    optim::Muon optimizer({NamedTensor{"kernel", kernel}}, {.lr = 1.0});
    optimizer.add_adamw_group({{"bias", bias}});
    bias.set_grad(matrix({5.0}, {1}));
    step_with(optimizer, kernel, gradient);
    const Tensor expected = -optim::orthogonalize(reshape(gradient, {4, 6}));
    CHECK(max_norm_deviation(reshape(kernel.detach(), {4, 6}), expected) <= 1e-6);
    CHECK(bias.item<double>() == doctest::Approx(-3e-4).epsilon(1e-9));
    CHECK(optimizer.state_dict().count("kernel.momentum_buffer") == 1);
    CHECK(optimizer.state_dict().count("bias.exp_avg_sq") == 1);
    const std::string message = message_of([&] { optim::Muon({NamedTensor{"bias", bias}}, {}); });
    CHECK(contains(message, "add_adamw_group"));
  }

  TEST_CASE("embeddings, heads and vectors are not for Muon") {
    const Tensor square = zeros({2, 2}), vector = zeros({2});
    const optim::MuonSplit split =
        optim::split_for_muon({{"transformer.wte.weight", square},
                               {"transformer.h.0.attn.c_proj.weight", square},
                               {"transformer.h.0.attn.c_proj.bias", vector},
                               {"model.embed_tokens.weight", square},
                               {"lm_head.weight", square}});
    REQUIRE(split.matrices.size() == 1);
    CHECK(split.matrices[0].name == "transformer.h.0.attn.c_proj.weight");
    CHECK(split.rest.size() == 4);
  }
}
