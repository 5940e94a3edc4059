// APOLLO: against a NumPy implementation (tests/golden/apollo.py), and the state it keeps.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/creation.h>
#include <tendril/core/threads.h>
#include <tendril/optim/apollo.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "golden_values.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;
using optim::ApolloAdamW;
using optim::ApolloAdamWOptions;
using optim::ApolloBasis;
using optim::ApolloProjection;
using optim::ApolloScaling;
using optim::ProjectionType;

namespace {

constexpr uint64_t kSeed = 42;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Case {
  std::string name;
  ApolloAdamWOptions options;
};

ApolloAdamWOptions with(ApolloProjection projection, double lr = 0.02) {
  projection.seed = kSeed;
  if (projection.update_proj_gap == 200) projection.update_proj_gap = 7;
  return {.lr = lr, .projection = projection};
}

// As in apollo.py.
std::vector<Case> cases() {
  ApolloAdamWOptions all =
      with({.rank = 2, .update_proj_gap = 3, .scale = 4.0, .scale_front = true});
  all.beta1 = 0.8;
  all.beta2 = 0.95;
  all.eps = 1e-3;
  all.weight_decay = 0.1;
  return {{"channel", with({.rank = 3})},
          {"channel_all", all},
          {"mini", with({.rank = 1, .scale = 128.0, .scaling = ApolloScaling::tensor}, 0.001)},
          {"reverse", with({.rank = 2, .scale = 2.0, .type = ProjectionType::reverse_standard})},
          {"unlimited", with({.rank = 2, .type = ProjectionType::left, .max_growth = kInfinity})},
          {"svd", with({.rank = 2, .basis = ApolloBasis::svd})},
          {"clamped", with({.rank = 100})}};
}

Tensor noise(const Shape& shape, uint64_t position, DType dtype = f32) {
  return randn(shape, dtype, RandomKey{.seed = 5, .position = position});
}

void step_with(optim::Optimizer& optimizer, Tensor& parameter, const Tensor& gradient) {
  parameter.set_grad(to(gradient, parameter.dtype()));
  optimizer.step();
}

// Two matrices, of both orientations, and a vector.
struct Model {
  std::vector<NamedTensor> list;

  explicit Model(DType dtype) {
    add("tall", noise({30, 20}, 1, dtype));
    add("wide", noise({20, 30}, 2, dtype));
    add("bias", noise({11}, 3, dtype));
  }
  Model(const Model& other, DType dtype) {
    for (const NamedTensor& entry : other.list)
      add(entry.name, clone(to(entry.tensor.detach(), dtype)));
  }
  void add(const std::string& name, Tensor tensor) {
    list.push_back({name, tensor.requires_grad_()});
  }

  void advance(optim::Optimizer& optimizer, uint64_t from, uint64_t until) {
    for (uint64_t step = from; step < until; ++step) {
      for (size_t i = 0; i < list.size(); ++i) {
        const double size = step % 3 == 2 ? 4.0 : 1.0;
        Tensor parameter = list[i].tensor;
        parameter.set_grad(
            to(noise(parameter.shape(), 100 + step * 8 + i) * size, parameter.dtype()));
      }
      optimizer.step();
    }
  }
  std::vector<double> values() const {
    std::vector<double> all;
    for (const NamedTensor& entry : list)
      for (const double value : entry.tensor.detach().to_vector<double>()) all.push_back(value);
    return all;
  }
};

}  // namespace

TEST_SUITE("apollo") {
  TEST_CASE("20 steps as NumPy takes them") {
    const auto golden = load_golden("apollo");
    const std::vector<int64_t> kept = {1, 2, 10, 20};
    for (const Case& test : cases())
      for (const DType dtype : {f64, f32})
        for (const std::string name : {"tall", "wide", "vector"}) {
          CAPTURE(test.name);
          CAPTURE(name);
          CAPTURE(dtype);
          Tensor p = clone(to(golden.at(name), dtype)).requires_grad_();
          ApolloAdamW optimizer({NamedTensor{name, p}}, test.options);
          for (int64_t step = 0, row = 0; step < 20; ++step) {
            step_with(optimizer, p, select(golden.at(name + ".grad"), 0, step));
            if (step + 1 != kept[static_cast<size_t>(row)]) continue;
            const Tensor expected = select(golden.at(test.name + "/" + name), 0, row++);
            CHECK(golden_deviation(p.detach(), contiguous(expected)) <=
                  (dtype == f64 ? 1e-12 : 1e-6));
          }
        }
  }

  TEST_CASE("the cases limit some steps and not others") {
    const auto golden = load_golden("apollo");
    for (const Case& test : cases())
      for (const double cuts : numbers(golden.at(std::string(test.name) + "/limited"))) {
        const bool unlimited = test.name == "unlimited";
        CHECK(unlimited == (cuts == 0.0));
        CHECK(cuts < 19.0);
      }
  }

  TEST_CASE("with every direction a channel moves as far as by AdamW, and downhill") {
    // Adam's first step has size lr in every element, in any orthonormal directions: that of a
    // channel of n elements is lr sqrt(n) long, whatever its gradient. Here it is along the
    // gradient.
    Tensor p = zeros({6, 4}, f64).requires_grad_();
    const Tensor g =
        noise({6, 4}, 9, f64) * Tensor::from<double>({1, 10, 100, 1e3, 1e-2, 5}, {6, 1});
    ApolloAdamW optimizer(
        {NamedTensor{"p", p}},
        {.lr = 0.1, .eps = 0.0, .projection = {{.rank = 4, .basis = ApolloBasis::svd}}});
    step_with(optimizer, p, g);
    const Tensor lengths = sqrt(sum(square(p.detach()), {1}));
    for (const double length : numbers(lengths))
      CHECK(length == doctest::Approx(0.2).epsilon(1e-5));
    const Tensor direction = p.detach() / unsqueeze(lengths, 1);
    const Tensor downhill = neg(g) / unsqueeze(sqrt(sum(square(g), {1})), 1);
    CHECK(golden_deviation(direction, downhill) <= 1e-12);
  }

  TEST_CASE("state is small and its size known beforehand") {
    // Per matrix of 30 x 20: two moments of 30 x r; with svd also a basis of r x 20.
    Model model(f32);
    const auto bytes_for = [&](const ApolloProjection& projection) {
      ApolloAdamW optimizer(model.list, {.projection = projection});
      model.advance(optimizer, 0, 1);
      int64_t bytes = 0;
      for (const auto& [name, tensor] : optimizer.state_dict())
        if (tensor.dtype() == f32 || name.ends_with(".scaled_norm")) bytes += tensor.nbytes();
      CHECK(optimizer.state_bytes() == bytes);
      return bytes - 2 * 8;  // one norm in f64 for each matrix
    };
    const int64_t vector = 2 * 4 * 11;
    CHECK(bytes_for({.rank = 4}) == 2 * (2 * 4 * 30 * 4) + vector);
    CHECK(bytes_for({.rank = 1, .scaling = ApolloScaling::tensor}) == 2 * (2 * 4 * 30) + vector);
    CHECK(bytes_for({.rank = 4, .basis = ApolloBasis::svd}) ==
          2 * (2 * 4 * 30 * 4 + 4 * 4 * 20) + vector);
    CHECK(bytes_for({.rank = 4, .type = ProjectionType::reverse_standard}) ==
          2 * (2 * 4 * 20 * 4) + vector);
  }

  TEST_CASE("a saved state goes on with the same bits") {
    for (const DType dtype : {f64, f32, bf16, f16})
      for (const Case& test : cases()) {
        CAPTURE(test.name);
        ApolloAdamWOptions options = test.options;
        options.projection->update_proj_gap = 4;
        Model whole(dtype);
        ApolloAdamW optimizer(whole.list, options);
        whole.advance(optimizer, 0, 5);
        StateDict saved;
        for (const auto& [name, tensor] : optimizer.state_dict()) saved[name] = clone(tensor);
        Model again(whole, dtype);
        whole.advance(optimizer, 5, 10);
        // Another order of the parameters draws the same directions.
        std::vector<NamedTensor> turned(again.list.rbegin(), again.list.rend());
        ApolloAdamW resumed(options.projection->basis == ApolloBasis::random ? turned : again.list,
                            options);
        resumed.load_state_dict(saved);
        again.advance(resumed, 5, 10);
        CHECK(again.values() == whole.values());
        CHECK((dtype == bf16 || dtype == f16) == saved.contains("tall.master"));
        CHECK(saved.at("tall.scaled_norm").item<double>() > 0.0);
        CHECK_FALSE(saved.contains("bias.scaled_norm"));
      }
  }

  TEST_CASE("16-bit parameters move as their f32 masters do") {
    Model narrow(bf16), wide(narrow, f32);
    const ApolloAdamWOptions options = with({.rank = 3});
    ApolloAdamW first(narrow.list, options), second(wide.list, options);
    for (uint64_t step = 0; step < 5; ++step) {
      for (size_t i = 0; i < 3; ++i) {
        Tensor p = narrow.list[i].tensor, q = wide.list[i].tensor;
        p.set_grad(noise(p.shape(), 300 + step * 4 + i, bf16));
        q.set_grad(to(p.grad(), f32));
      }
      first.step();
      second.step();
    }
    for (size_t i = 0; i < 3; ++i)
      CHECK(numbers(first.state_dict().at(narrow.list[i].name + ".master")) ==
            numbers(wide.list[i].tensor.detach()));
  }

  TEST_CASE("the same bits on any number of threads") {
    const auto run = [](int threads) {
      const int before = num_threads();
      set_num_threads(threads);
      Tensor p = noise({300, 310}, 12).requires_grad_();
      ApolloAdamW optimizer({NamedTensor{"p", p}}, with({.rank = 16}));
      for (uint64_t step = 0; step < 3; ++step)
        step_with(optimizer, p, noise({300, 310}, 400 + step));
      set_num_threads(before);
      return numbers(p.detach());
    };
    const std::vector<double> alone = run(1);
    CHECK(run(2) == alone);
    CHECK(run(5) == alone);
  }

  TEST_CASE("zero gradients change nothing and do not freeze what comes after") {
    for (const ApolloBasis basis : {ApolloBasis::random, ApolloBasis::svd}) {
      Tensor p = noise({8, 5}, 13, f64).requires_grad_();
      const Tensor before = clone(p.detach());
      ApolloAdamW optimizer({NamedTensor{"p", p}},
                            {.lr = 0.1, .projection = {{.rank = 2, .basis = basis}}});
      step_with(optimizer, p, zeros({8, 5}, f64));
      CHECK(numbers(p.detach()) == numbers(before));
      step_with(optimizer, p, noise({8, 5}, 14, f64));
      const double moved = std::sqrt(sum(square(p.detach() - before)).item<double>());
      CHECK(moved > 1e-2);
      // The norm of a gradient that is not finite is not remembered.
      const double norm = optimizer.state_dict().at("p.scaled_norm").item<double>();
      CHECK(norm > 0.0);
      step_with(optimizer, p, full({8, 5}, kInfinity, f64));
      CHECK(optimizer.state_dict().at("p.scaled_norm").item<double>() == norm);
    }
  }

  TEST_CASE("training a small regression reaches the loss of the right weights") {
    // y = x W: a step of every channel by its own length solves it in a few hundred steps.
    for (const ApolloScaling scaling : {ApolloScaling::channel, ApolloScaling::tensor}) {
      const bool mini = scaling == ApolloScaling::tensor;
      const Tensor x = noise({64, 12}, 15), truth = noise({12, 20}, 16);
      const Tensor y = matmul(x, truth);
      Tensor w = zeros({12, 20}).requires_grad_();
      ApolloAdamW optimizer(
          {NamedTensor{"w", w}},
          {.lr = 0.05, .projection = {{.rank = mini ? 1 : 4, .scale = 1.0, .scaling = scaling}}});
      double first = 0.0, last = 0.0;
      for (int step = 0; step < 300; ++step) {
        optimizer.scale_lr(1.0 - step / 300.0);
        optimizer.zero_grad();
        const Tensor loss = mean(square(matmul(x, w) - y));
        loss.backward();
        last = loss.item<double>();
        if (step == 0) first = last;
        optimizer.step();
      }
      CHECK(last < 0.01 * first);
    }
  }

  TEST_CASE("options that cannot be are refused") {
    Tensor p = noise({4, 4}, 17).requires_grad_();
    const auto make = [&](const ApolloProjection& projection) {
      return message_of([&] { ApolloAdamW({NamedTensor{"w", p}}, {.projection = projection}); });
    };
    CHECK(contains(make({.rank = 0}), "[ApolloAdamW] rank"));
    CHECK(contains(make({.update_proj_gap = 0}), "update_proj_gap"));
    CHECK(contains(make({.scale = -1.0}), "scale must not be negative"));
    CHECK(contains(make({.scale = kInfinity}), "scale must be finite"));
    CHECK(contains(make({.type = ProjectionType::full}), "reverse_std"));
    CHECK(contains(make({.max_growth = 0.99}), "max_growth"));
    CHECK(make({.max_growth = kInfinity}) == "");
    CHECK(contains(message_of([&] {
                     ApolloAdamW({NamedTensor{"w", p}}, {.lr = 2.0, .weight_decay = 0.5});
                   }),
                   "lr * weight_decay"));
    CHECK(contains(message_of([] { optim::apollo_basis_from("qr"); }), "random, svd"));
    CHECK(contains(message_of([] { optim::apollo_scaling_from("row"); }), "channel, tensor"));
    CHECK(optim::apollo_basis_from("svd") == ApolloBasis::svd);
    CHECK(optim::apollo_scaling_from("tensor") == ApolloScaling::tensor);
  }
}
