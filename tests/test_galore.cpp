// GaLore: bases of gradients, the optimizers that live in them, and the state they keep.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/creation.h>
#include <tendril/core/threads.h>
#include <tendril/optim/adafactor.h>
#include <tendril/optim/galore.h>
#include <tendril/optim/low_rank.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "golden_values.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;
using optim::ProjectionOptions;
using optim::ProjectionType;

namespace {

constexpr RandomKey kKey = {.seed = 11};

Tensor noise(const Shape& shape, uint64_t position, DType dtype = f64) {
  return randn(shape, dtype, RandomKey{.seed = 5, .position = position});
}

Tensor t(const Tensor& x) { return transpose(x); }

// U diag(values) V^T with orthonormal U and V.
Tensor with_spectrum(const std::vector<double>& values, int64_t m, int64_t n) {
  const auto r = static_cast<int64_t>(values.size());
  const auto orthonormal = [&](int64_t rows, uint64_t position) {
    optim::Basis basis{Tensor::empty({rows, r}, f64), {}};
    optim::find_basis(basis, noise({rows, r}, position), {.rank = r, .type = ProjectionType::left},
                      kKey);
    return basis.left;
  };
  return matmul(orthonormal(m, 101) * Tensor::from(values, {r}), t(orthonormal(n, 102)));
}

optim::Basis basis_of(const Tensor& matrix, const ProjectionOptions& options) {
  const optim::Sides sides = optim::sides_of(options.type, matrix.shape());
  const int64_t rank = optim::projection_rank(options, matrix.shape());
  optim::Basis basis;
  if (sides.left) basis.left = Tensor::empty({matrix.size(0), rank}, matrix.dtype());
  if (sides.right) basis.right = Tensor::empty({rank, matrix.size(1)}, matrix.dtype());
  optim::find_basis(basis, matrix, options, kKey);
  return basis;
}

Tensor round_trip(const Tensor& matrix, const ProjectionOptions& options) {
  const optim::Basis basis = basis_of(matrix, options);
  return optim::project_back(basis, optim::project(basis, matrix));
}

double squared_size(const Tensor& x) { return sum(square(x)).item<double>(); }

void step_with(optim::Optimizer& optimizer, Tensor& parameter, const Tensor& gradient) {
  parameter.set_grad(to(gradient, parameter.dtype()));
  optimizer.step();
}

const std::vector<ProjectionType> kTypes = {ProjectionType::standard,
                                            ProjectionType::reverse_standard, ProjectionType::left,
                                            ProjectionType::right, ProjectionType::full};

}  // namespace

TEST_SUITE("galore") {
  TEST_CASE("a gradient of rank 1 comes back whole from one direction") {
    for (const DType dtype : {f32, f64})
      for (const ProjectionType type : kTypes)
        for (const bool randomized : {false, true}) {
          const Tensor g = matmul(noise({30, 1}, 1, dtype), noise({1, 20}, 2, dtype));
          const Tensor back = round_trip(g, {.rank = 1, .type = type, .randomized = randomized});
          CHECK(std::sqrt(squared_size(to(back, f64) - to(g, f64)) / squared_size(to(g, f64))) <=
                (dtype == f64 ? 1e-13 : 1e-6));
        }
  }

  TEST_CASE("a rank as large as the shorter side keeps everything on that side") {
    for (const Shape& shape : {Shape{4, 7}, Shape{7, 4}, Shape{5, 5}})
      for (const int64_t rank : {int64_t{5}, int64_t{200}}) {
        const Tensor g = noise(shape, 3);
        const Tensor back = round_trip(g, {.rank = rank});
        CHECK(golden_deviation(back, g) <= 1e-13);
      }
  }

  TEST_CASE("what a basis leaves out is the rest of the spectrum") {
    const std::vector<double> values = {7.0, 4.0, 2.5, 1.0, 0.5, 0.25};
    for (const Shape& shape : {Shape{8, 13}, Shape{13, 8}})
      for (int64_t rank = 1; rank < 6; ++rank)
        for (const ProjectionType type :
             {ProjectionType::standard, ProjectionType::reverse_standard}) {
          const Tensor g = with_spectrum(values, shape[0], shape[1]);
          double rest = 0.0;
          for (size_t i = static_cast<size_t>(rank); i < values.size(); ++i)
            rest += values[i] * values[i];
          const double lost = squared_size(g - round_trip(g, {.rank = rank, .type = type}));
          CHECK(lost == doctest::Approx(rest).epsilon(1e-10));
        }
  }

  TEST_CASE("sides, shapes and signs") {
    const auto shape_of = [](ProjectionType type, const Shape& matrix, int64_t rank) {
      return optim::projected_shape({.rank = rank, .type = type}, matrix);
    };
    CHECK(shape_of(ProjectionType::standard, {3, 5}, 1) == Shape{1, 5});
    CHECK(shape_of(ProjectionType::standard, {5, 3}, 2) == Shape{5, 2});
    CHECK(shape_of(ProjectionType::standard, {4, 4}, 2) == Shape{4, 2});
    CHECK(shape_of(ProjectionType::reverse_standard, {3, 5}, 1) == Shape{3, 1});
    CHECK(shape_of(ProjectionType::reverse_standard, {5, 3}, 2) == Shape{2, 3});
    CHECK(shape_of(ProjectionType::reverse_standard, {4, 4}, 2) == Shape{2, 4});
    CHECK(shape_of(ProjectionType::left, {5, 3}, 2) == Shape{2, 3});
    CHECK(shape_of(ProjectionType::right, {3, 5}, 2) == Shape{3, 2});
    CHECK(shape_of(ProjectionType::full, {6, 5}, 2) == Shape{2, 2});
    CHECK(shape_of(ProjectionType::full, {6, 5}, 9) == Shape{5, 5});
    for (const ProjectionType type : kTypes)
      for (const bool randomized : {false, true}) {
        const optim::Basis basis =
            basis_of(noise({40, 30}, 4), {.rank = 3, .type = type, .randomized = randomized});
        for (const Tensor& side : {basis.left, basis.right.defined() ? t(basis.right) : Tensor()}) {
          if (!side.defined()) continue;
          CHECK(golden_deviation(matmul(t(side), side), eye(3, -1, f64)) <= 1e-13);
          for (int64_t j = 0; j < 3; ++j) {
            const Tensor column = select(side, 1, j);
            CHECK(max(column).item<double>() == max(abs(column)).item<double>());
          }
        }
      }
  }

  TEST_CASE("the range finder finds the exact directions") {
    std::vector<double> values;
    for (int i = 0; i < 40; ++i) values.push_back(std::pow(2.0, -i));
    for (const Shape& shape : {Shape{60, 90}, Shape{90, 60}}) {
      const Tensor g = with_spectrum(values, shape[0], shape[1]);
      const int64_t rank = 8;
      const Tensor exact = basis_of(g, {.rank = rank, .type = ProjectionType::left}).left;
      for (const int64_t powers : {1, 2}) {
        const Tensor found = basis_of(g, {.rank = rank,
                                          .type = ProjectionType::left,
                                          .randomized = true,
                                          .power_iterations = powers})
                                 .left;
        CHECK(squared_size(matmul(t(exact), found)) >= static_cast<double>(rank) - 0.01);
      }
    }
  }

  TEST_CASE("the range finder's basis is orthonormal where the gradient has fewer directions") {
    for (const DType dtype : {f32, f64}) {
      const Tensor nearly = matmul(noise({40, 2}, 8, dtype), noise({2, 30}, 9, dtype));
      const Tensor equal_rows = ones({40, 1}, dtype) * noise({1, 30}, 10, dtype);
      for (const Tensor& g : {nearly, equal_rows})
        for (const ProjectionType type : {ProjectionType::left, ProjectionType::right}) {
          const optim::Basis basis = basis_of(g, {.rank = 6, .type = type, .randomized = true});
          const Tensor side = to(basis.left.defined() ? basis.left : t(basis.right), f64);
          const double tolerance = dtype == f64 ? 1e-12 : 1e-6;
          CHECK(golden_deviation(matmul(t(side), side), eye(6, -1, f64)) <= tolerance);
          const Tensor back = optim::project_back(basis, optim::project(basis, g));
          CHECK(golden_deviation(back, g) <= tolerance * 10);
        }
    }
  }

  TEST_CASE("bases have the same bits for any number of threads") {
    const Tensor g = noise({150, 130}, 6, f32);
    const ProjectionOptions options = {
        .rank = 20, .type = ProjectionType::full, .randomized = true};
    const int before = num_threads();
    set_num_threads(1);
    const optim::Basis alone = basis_of(g, options);
    set_num_threads(3);
    const optim::Basis together = basis_of(g, options);
    set_num_threads(before);
    CHECK(numbers(alone.left) == numbers(together.left));
    CHECK(numbers(alone.right) == numbers(together.right));
  }

  TEST_CASE("GaLore's AdamW without a projection") {
    // From the table of four orders of AdamW: eps on the raw root, decay last.
    for (const DType dtype : {f64, f32}) {
      Tensor p = to(Tensor::from<double>({1.0}, {1}), dtype).requires_grad_();
      optim::GaloreAdamW optimizer({NamedTensor{"p", p}}, {.lr = 0.1, .weight_decay = 0.01});
      const double tolerance = dtype == f64 ? 1e-9 : 1e-6;
      step_with(optimizer, p, Tensor::from<double>({0.5}, {1}));
      CHECK(std::abs(p.detach().item<double>() - 0.899106317831) <= tolerance);
      step_with(optimizer, p, Tensor::from<double>({-0.25}, {1}));
      CHECK(std::abs(p.detach().item<double>() - 0.871601646892) <= tolerance);
    }
  }

  TEST_CASE("a projected step is the inner rule's, there and back") {
    // Three steps of a 3 x 4 matrix, the rule written out with plain operations.
    const ProjectionOptions projection = {.rank = 2, .update_proj_gap = 2, .scale = 0.5};
    const optim::GaloreAdamWOptions options = {
        .lr = 0.1, .beta1 = 0.8, .beta2 = 0.9, .weight_decay = 0.02, .projection = projection};
    Tensor p = noise({3, 4}, 7).requires_grad_();
    Tensor expected = clone(p.detach());
    optim::GaloreAdamW optimizer({NamedTensor{"p", p}}, options);
    Tensor m = zeros({2, 4}, f64), v = zeros({2, 4}, f64);
    optim::Basis basis;
    for (int step = 1; step <= 3; ++step) {
      const Tensor g = noise({3, 4}, 20 + static_cast<uint64_t>(step));
      step_with(optimizer, p, g);
      if (step != 2) basis = basis_of(g, projection);  // steps 0 and 2 of those before
      const Tensor r = matmul(t(basis.left), g);
      m = m * 0.8 + r * 0.2;
      v = v * 0.9 + square(r) * 0.1;
      const double rate = 0.1 * std::sqrt(1.0 - std::pow(0.9, step)) / (1.0 - std::pow(0.8, step));
      expected = expected - matmul(basis.left, m / (sqrt(v) + 1e-6)) * (rate * 0.5);
      expected = expected - expected * (0.1 * 0.02);
      CHECK(golden_deviation(p.detach(), expected) <= 1e-12);
      CHECK(optimizer.state_dict().at("p.refreshed_at").item<double>() == (step < 3 ? 0.0 : 2.0));
    }
  }

  TEST_CASE("GaLore's Adafactor projects before it factors") {
    const ProjectionOptions projection = {.rank = 2, .scale = 1.0};
    Tensor p = noise({3, 4}, 8).requires_grad_();
    const Tensor before = clone(p.detach()), g = noise({3, 4}, 9);
    optim::GaloreAdafactor optimizer({NamedTensor{"p", p}}, {.adafactor = {.lr = 0.01,
                                                                           .weight_decay = 0.1,
                                                                           .scale_parameter = false,
                                                                           .relative_step = false},
                                                             .projection = projection});
    step_with(optimizer, p, g);
    const optim::Basis basis = basis_of(g, projection);
    // Adafactor alone on the small matrix, from zero: it moves by the step.
    Tensor small = zeros({2, 4}, f64).requires_grad_();
    optim::Adafactor inner({NamedTensor{"s", small}},
                           {.lr = 0.01, .scale_parameter = false, .relative_step = false});
    step_with(inner, small, matmul(t(basis.left), g));
    const Tensor expected = before - before * (0.1 * 0.01) + matmul(basis.left, small.detach());
    CHECK(golden_deviation(p.detach(), expected) <= 1e-12);
    const StateDict state = optimizer.state_dict();
    CHECK(state.at("p.exp_avg_sq_row").shape() == Shape{2});
    CHECK(state.at("p.exp_avg_sq_col").shape() == Shape{4});
    CHECK(state.at("p.left_basis").shape() == Shape{3, 2});
  }

  TEST_CASE("new bases come exactly when they are due") {
    const auto refreshes = [](const ProjectionOptions& projection) {
      std::vector<std::vector<int>> steps(4);
      std::vector<NamedTensor> parameters;
      for (uint64_t i = 0; i < 4; ++i) {
        Tensor p = noise({4, 5}, 30 + i).requires_grad_();
        parameters.push_back({"p" + std::to_string(i), p});
      }
      optim::GaloreAdamW optimizer(parameters, {.projection = projection});
      for (int step = 0; step < 17; ++step) {
        for (size_t i = 0; i < 4; ++i)
          parameters[i].tensor.set_grad(noise({4, 5}, 50 + static_cast<uint64_t>(step) * 4 + i));
        optimizer.step();
        const StateDict state = optimizer.state_dict();
        for (size_t i = 0; i < 4; ++i)
          if (state.at("p" + std::to_string(i) + ".refreshed_at").item<double>() == step)
            steps[i].push_back(step);
      }
      return steps;
    };
    const auto together = refreshes({.rank = 2, .update_proj_gap = 8});
    for (const auto& steps : together) CHECK(steps == std::vector<int>{0, 8, 16});
    const auto staggered = refreshes({.rank = 2, .update_proj_gap = 8, .staggered = true});
    CHECK(staggered[0] == std::vector<int>{0, 8, 16});
    CHECK(staggered[1] == std::vector<int>{0, 2, 10});
    CHECK(staggered[2] == std::vector<int>{0, 4, 12});
    CHECK(staggered[3] == std::vector<int>{0, 6, 14});
  }

  TEST_CASE("a saved state goes on with the same bits") {
    for (const DType dtype : {f32, bf16})
      for (const ProjectionType type : kTypes)
        for (const bool randomized : {false, true}) {
          const optim::GaloreAdamWOptions options = {.lr = 0.05,
                                                     .projection = {{.rank = 3,
                                                                     .update_proj_gap = 4,
                                                                     .type = type,
                                                                     .randomized = randomized,
                                                                     .oversampling = 2,
                                                                     .staggered = true}}};
          // Square and with a rank near the side: the side cannot be told from shapes.
          Tensor p = noise({12, 12}, 60, dtype).requires_grad_();
          Tensor bias = noise({12}, 61, dtype).requires_grad_();
          const auto make = [&](Tensor& weight, Tensor& rest) {
            auto optimizer = std::make_unique<optim::GaloreAdamW>(
                std::vector<NamedTensor>{{"bias", rest}}, optim::GaloreAdamWOptions{.lr = 0.05});
            optimizer->add_param_group({NamedTensor{"p", weight}}, options);
            return optimizer;
          };
          const auto advance = [&](optim::Optimizer& optimizer, Tensor& weight, Tensor& rest,
                                   int from, int to) {
            for (int step = from; step < to; ++step) {
              weight.set_grad(noise({12, 12}, 70 + static_cast<uint64_t>(step), dtype));
              rest.set_grad(noise({12}, 90 + static_cast<uint64_t>(step), dtype));
              optimizer.step();
            }
          };
          const auto optimizer = make(p, bias);
          advance(*optimizer, p, bias, 0, 5);
          StateDict saved;
          for (const auto& [name, tensor] : optimizer->state_dict()) saved[name] = clone(tensor);
          Tensor q = clone(p.detach()).requires_grad_(), rest = clone(bias.detach());
          rest.requires_grad_();
          advance(*optimizer, p, bias, 5, 10);
          const auto resumed = make(q, rest);
          resumed->load_state_dict(saved);
          advance(*resumed, q, rest, 5, 10);
          CHECK(numbers(q.detach()) == numbers(p.detach()));
          CHECK(numbers(rest.detach()) == numbers(bias.detach()));
          CHECK((dtype == bf16) == saved.contains("p.master"));
        }
  }

  TEST_CASE("a state of the other side is refused") {
    Tensor p = noise({6, 6}, 80).requires_grad_();
    const auto options = [](ProjectionType type) {
      return optim::GaloreAdamWOptions{.projection = {{.rank = 6, .type = type}}};
    };
    optim::GaloreAdamW left({NamedTensor{"p", p}}, options(ProjectionType::left));
    step_with(left, p, noise({6, 6}, 81));
    optim::GaloreAdamW right({NamedTensor{"p", p}}, options(ProjectionType::right));
    const std::string message = message_of([&] { right.load_state_dict(left.state_dict()); });
    CHECK(contains(message, "p.right_basis is missing"));
    CHECK(contains(message, "p.left_basis belongs to no parameter"));
  }

  TEST_CASE("gradients without directions leave basis and weights alone") {
    for (const bool randomized : {false, true}) {
      Tensor p = noise({20, 15}, 82).requires_grad_();
      const Tensor before = clone(p.detach());
      optim::GaloreAdamW optimizer(
          {NamedTensor{"p", p}},
          {.projection = {{.rank = 2, .update_proj_gap = 3, .randomized = randomized}}});
      step_with(optimizer, p, zeros({20, 15}, f64));
      CHECK(numbers(p.detach()) == numbers(before));
      CHECK(optimizer.state_dict().at("p.refreshed_at").item<double>() == -1.0);
      // The first one with directions gives the basis, whenever it comes.
      step_with(optimizer, p, matmul(noise({20, 1}, 83), noise({1, 15}, 84)));
      CHECK(optimizer.state_dict().at("p.refreshed_at").item<double>() == 1.0);
      const Tensor basis = clone(optimizer.state_dict().at("p.right_basis"));
      CHECK(golden_deviation(matmul(basis, t(basis)), eye(2, -1, f64)) <= 1e-12);
      CHECK(all(isfinite(p.detach())).item<bool>());
      step_with(optimizer, p, noise({20, 15}, 85));
      step_with(optimizer, p, full({20, 15}, std::numeric_limits<double>::infinity(), f64));
      CHECK(numbers(optimizer.state_dict().at("p.right_basis")) == numbers(basis));
    }
  }

  TEST_CASE("options that cannot be are refused") {
    Tensor p = noise({4, 4}, 86).requires_grad_(), bias = noise({4}, 87).requires_grad_();
    const auto make = [&](const ProjectionOptions& projection, const Tensor& parameter) {
      return message_of([&] {
        optim::GaloreAdamW({NamedTensor{"w", parameter}}, {.projection = projection});
      });
    };
    CHECK(contains(make({.rank = 0}, p), "rank"));
    CHECK(contains(make({.update_proj_gap = 0}, p), "update_proj_gap"));
    CHECK(contains(make({.scale = std::nan("")}, p), "scale"));
    CHECK(contains(make({.power_iterations = -1}, p), "power_iterations"));
    CHECK(contains(make({}, bias), "\"w\" is no matrix; got shape (4"));
    CHECK(make({}, p) == "");
    CHECK(contains(message_of([&] { optim::projection_type_from("middle"); }), "reverse_std"));
    CHECK(optim::projection_type_from("reverse_std") == ProjectionType::reverse_standard);
  }
}
