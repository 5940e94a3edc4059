// LOMO and AdaLomo: the reference's numbers, state, and small dtypes.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/allocator.h>
#include <tendril/core/creation.h>
#include <tendril/optim/layerwise.h>
#include <tendril/optim/lomo.h>
#include <tendril/optim/sgd.h>

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "golden_values.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

Tensor noise(const Shape& shape, uint64_t position, DType dtype) {
  return randn(shape, dtype, RandomKey{.seed = 21, .position = position});
}

// A backward pass that gives `parameter` this gradient.
void backward_with(const Tensor& parameter, const Tensor& gradient) {
  sum(parameter * to(gradient, parameter.dtype())).backward();
}

}  // namespace

TEST_SUITE("lomo") {
  TEST_CASE("LOMO's step during backward") {
    for (const DType dtype : {f64, f32}) {
      Tensor p = to(Tensor::from<double>({1.0}, {1}), dtype).requires_grad_();
      optim::Lomo optimizer({NamedTensor{"p", p}}, {.lr = 0.1, .weight_decay = 0.01});
      CHECK(optimizer.updates_in_backward());
      backward_with(p, Tensor::from<double>({0.5}, {1}));
      CHECK(std::abs(p.detach().item<double>() - 0.949) <= (dtype == f64 ? 1e-15 : 1e-7));
      CHECK(!p.grad().defined());
      CHECK(optimizer.state_dict().size() == 1);  // the count of steps alone
    }
  }

  TEST_CASE("LOMO is SGD to the bit") {
    Tensor p = noise({33, 7}, 1, f32).requires_grad_();
    Tensor q = clone(p.detach()).requires_grad_();
    optim::Lomo lomo({NamedTensor{"p", p}}, {.lr = 0.03});
    optim::Sgd sgd({NamedTensor{"q", q}}, {.lr = 0.03});
    for (uint64_t step = 0; step < 5; ++step) {
      const Tensor g = noise({33, 7}, 2 + step, f32);
      backward_with(p, g);
      q.set_grad(g);
      sgd.step();
      CHECK(numbers(p.detach()) == numbers(q.detach()));
    }
  }

  TEST_CASE("LOMO clips by the norm of two passes") {
    Tensor p = leaf({0.0, 0.0, 0.0});
    optim::Lomo optimizer({NamedTensor{"p", p}}, {.lr = 1.0});
    const auto pass = [&] { backward_with(p, Tensor::from<double>({3.0, 4.0, 12.0}, {3})); };
    const double norm = optimizer.backward_updates().measure_norm(pass);
    CHECK(norm == 13.0);
    optimizer.backward_updates().set_clip(norm, 1.0);
    pass();
    const double coefficient = 0.0769230710;
    CHECK(golden_deviation(p.detach(), Tensor::from<double>({-3.0 * coefficient, -4.0 * coefficient,
                                                             -12.0 * coefficient},
                                                            {3})) <= 1e-9);
    optimizer.backward_updates().clear_clip();
    pass();
    CHECK(std::abs(numbers(p.detach())[0] + 3.0 * (1.0 + coefficient)) <= 1e-9);
  }

  TEST_CASE("LOMO computes 16-bit weights in f32 and keeps none") {
    Tensor p = to(Tensor::from<double>({1.0, -2.0}, {2}), bf16).requires_grad_();
    optim::Lomo optimizer({NamedTensor{"p", p}}, {.lr = 0.5});
    backward_with(p, Tensor::from<double>({0.0625, 1.0}, {2}));
    // 1 - 0.03125 and -2.5 are bf16 numbers.
    CHECK(numbers(p.detach()) == std::vector<double>{0.96875, -2.5});
    CHECK(!optimizer.state_dict().contains("p.master"));
    optimizer.load_state_dict(optimizer.state_dict());
    // A step below half the spacing of bf16 at 1 is lost, as it is without a master.
    optimizer.set_lr(1e-3);
    backward_with(p, Tensor::from<double>({0.0625, 1.0}, {2}));
    CHECK(numbers(p.detach()) == std::vector<double>{0.96875, -2.5});
  }

  TEST_CASE("AdaLomo's first step") {
    for (const DType dtype : {f64, f32}) {
      Tensor p = to(Tensor::from<double>({1, 2, 3, 4}, {2, 2}), dtype).requires_grad_();
      optim::AdaLomo optimizer({NamedTensor{"p", p}}, {.lr = 0.01});
      backward_with(p, Tensor::from<double>({.1, -.2, .3, .4}, {2, 2}));
      const Tensor expected =
          Tensor::from<double>({.97878680, 2.03, 2.97153950, 3.97316718}, {2, 2});
      CHECK(golden_deviation(p.detach(), expected) <= (dtype == f64 ? 5e-9 : 1e-6));
      CHECK(!p.grad().defined());
      const StateDict state = optimizer.state_dict();
      CHECK(state.at("p.exp_avg_sq_row").shape() == Shape{2});
      CHECK(state.at("p.exp_avg_sq_col").shape() == Shape{2});
      CHECK(state.size() == 3);
    }
  }

  TEST_CASE("AdaLomo decays by the relative rate, and vectors are not factored") {
    Tensor p = leaf({3.0, -4.0});
    optim::AdaLomo optimizer({NamedTensor{"p", p}}, {.lr = 0.1, .weight_decay = 0.5});
    backward_with(p, Tensor::from<double>({0.2, -0.7}, {2}));
    // v = g^2, so u = (1, -1), whose root mean square is 1; rate = 0.1 * sqrt(12.5).
    const double rate = 0.1 * std::sqrt(12.5);
    CHECK(golden_deviation(p.detach(), Tensor::from<double>({3.0 - 3.0 * rate * 0.5 - rate,
                                                             -4.0 + 4.0 * rate * 0.5 + rate},
                                                            {2})) <= 1e-14);
    CHECK(optimizer.state_dict().at("p.exp_avg_sq").shape() == Shape{2});
  }

  TEST_CASE("AdaLomo's state goes on with the same bits, in bf16 as well") {
    for (const DType dtype : {f32, bf16}) {
      Tensor p = noise({6, 5}, 30, dtype).requires_grad_();
      optim::AdaLomo optimizer({NamedTensor{"p", p}}, {.lr = 0.05});
      for (uint64_t step = 0; step < 3; ++step) backward_with(p, noise({6, 5}, 31 + step, dtype));
      Tensor q = clone(p.detach()).requires_grad_();
      StateDict saved;
      for (const auto& [name, tensor] : optimizer.state_dict()) saved[name] = clone(tensor);
      optim::AdaLomo resumed({NamedTensor{"p", q}}, {.lr = 0.05});
      resumed.load_state_dict(saved);
      CHECK(!saved.contains("p.master"));
      for (uint64_t step = 3; step < 6; ++step) {
        backward_with(p, noise({6, 5}, 31 + step, dtype));
        backward_with(q, noise({6, 5}, 31 + step, dtype));
      }
      CHECK(numbers(p.detach()) == numbers(q.detach()));
    }
  }

  TEST_CASE("AdaLomo of a large matrix: the formula in double, and memory for a part of it") {
    const int64_t rows = 3000, columns = 1000;  // three pieces
    Tensor p = noise({rows, columns}, 50, f32).requires_grad_();
    const Tensor g = noise({rows, columns}, 51, f32);
    const std::vector<float> before = p.to_vector<float>(), gradient = g.to_vector<float>();
    optim::AdaLomo optimizer({NamedTensor{"p", p}}, {.lr = 0.01, .clip_threshold = 0.5});
    p.set_grad(g);
    reset_peak_memory_stats();
    const int64_t held = memory_stats().current_bytes;
    optimizer.step_parameter(0);
    CHECK(memory_stats().peak_bytes - held <= 9 << 20);  // the gradient has 12 MB
    CHECK(g.to_vector<float>() == gradient);

    std::vector<double> row(rows, 1e-30), column(columns, 1e-30);
    double size = 0.0, square = 0.0;
    const auto at = [&](int64_t i, int64_t j) { return static_cast<size_t>(i * columns + j); };
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) {
        const double x = gradient[at(i, j)], w = before[at(i, j)];
        row[static_cast<size_t>(i)] += x * x / columns;
        column[static_cast<size_t>(j)] += x * x / rows;
        size += w * w / (rows * columns);
      }
    const double mean_row = std::accumulate(row.begin(), row.end(), 0.0) / rows;
    const auto direction = [&](int64_t i, int64_t j) {
      return gradient[at(i, j)] /
             std::sqrt(row[static_cast<size_t>(i)] / mean_row * column[static_cast<size_t>(j)]);
    };
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        square += direction(i, j) * direction(i, j) / (rows * columns);
    const double step = 0.01 * std::sqrt(size) / (std::sqrt(square) / 0.5);
    const std::vector<float> after = p.to_vector<float>();
    double worst = 0.0;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        worst = std::max(worst,
                         std::abs(after[at(i, j)] - (before[at(i, j)] - step * direction(i, j))));
    CHECK(worst <= 1e-6);  // weights of up to 5 in f32
  }

  TEST_CASE("a tied weight is updated once, by the sum of its uses") {
    Tensor w = noise({5, 4}, 40, f64).requires_grad_();
    Tensor w2 = clone(w.detach()).requires_grad_();
    const Tensor rows = Tensor::from<int64_t>({0, 3, 1}, {3});
    const auto loss = [&](const Tensor& table) {
      return sum(square(tanh(matmul(embedding(rows, table), transpose(table)))));
    };
    optim::Lomo lomo({NamedTensor{"w", w}}, {.lr = 0.1});
    optim::Sgd sgd({NamedTensor{"w", w2}}, {.lr = 0.1});
    loss(w).backward();
    loss(w2).backward();
    sgd.step();
    CHECK(numbers(w.detach()) == numbers(w2.detach()));
    CHECK(lomo.state_dict().at("w.step").item<int64_t>() == 1);
    CHECK(lomo.backward_updates().delayed() == 0);
  }

  TEST_CASE("options that cannot be are refused") {
    Tensor p = leaf({1.0});
    CHECK(contains(message_of([&] {
                     optim::Lomo({NamedTensor{"p", p}}, {.weight_decay = -1.0});
                   }),
                   "weight_decay"));
    CHECK(contains(message_of([&] {
                     optim::AdaLomo({NamedTensor{"p", p}}, {.decay_rate = 0.8});
                   }),
                   "decay_rate"));
    Tensor frozen = Tensor::from<double>({1.0}, {1});
    CHECK(contains(message_of([&] {
                     optim::Lomo({NamedTensor{"p", frozen}});
                   }),
                   "does not require grad"));
  }
}
