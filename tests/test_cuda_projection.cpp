// New directions for GaLore and APOLLO on a GPU: the range finder beside the CPU's, and how little
// of a gradient the host sees.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/creation.h>
#include <tendril/optim/apollo.h>
#include <tendril/optim/galore.h>
#include <tendril/optim/low_rank.h>

#include <cmath>
#include <string>
#include <vector>

#include "cuda_tools.h"
#include "golden_values.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;
using optim::ProjectionOptions;
using optim::ProjectionType;

namespace {

const Device kGpu = Device::cuda();

const ProjectionOptions kRangeFinder = {
    .rank = 6, .type = ProjectionType::full, .randomized = true, .oversampling = 4};

Tensor noise(const Shape& shape, uint64_t position, DType dtype = f32) {
  return randn(shape, dtype, RandomKey{.seed = 21, .position = position});
}

Tensor t(const Tensor& x) { return transpose(x); }

// A few directions well apart, each less than the one before, and noise.
Tensor gradient(int64_t m, int64_t n, DType dtype = f32) {
  const Tensor sizes = exp(arange(8) * -0.4);
  const Tensor g = matmul(noise({m, 8}, 1) * sizes, noise({8, n}, 2)) + noise({m, n}, 3) * 0.01;
  return to(g, dtype);
}

optim::Basis basis_of(const Tensor& matrix, const ProjectionOptions& options) {
  const optim::Sides sides = optim::sides_of(options.type, matrix.shape());
  const int64_t rank = optim::projection_rank(options, matrix.shape());
  optim::Basis basis;
  if (sides.left)
    basis.left = Tensor::empty({matrix.size(0), rank}, matrix.dtype(), matrix.device());
  if (sides.right)
    basis.right = Tensor::empty({rank, matrix.size(1)}, matrix.dtype(), matrix.device());
  optim::find_basis(basis, matrix, options, {.seed = 4});
  return basis;
}

// On the CPU, in f64, the vectors as columns.
std::vector<Tensor> sides_of(const optim::Basis& basis) {
  const auto here = [](const Tensor& x) { return to(to(x, Device::cpu()), f64); };
  return {here(basis.left), t(here(basis.right))};
}

// Largest deviation of the columns' products with each other from 1 and 0.
double lack_of_orthogonality(const Tensor& columns) {
  const Tensor gram = matmul(t(columns), columns);
  return max(abs(gram - eye(gram.size(0), -1, f64))).item<double>();
}

// What a basis on both sides keeps of a matrix, as the part that is lost of its length.
double lost(const optim::Basis& basis, const Tensor& matrix) {
  const Tensor back = optim::project_back(basis, optim::project(basis, matrix));
  const auto length = [](const Tensor& x) {
    return std::sqrt(sum(square(to(to(x, Device::cpu()), f64))).item<double>());
  };
  return length(back - matrix) / length(matrix);
}

// Bytes that finding a basis on both sides copies to the host.
int64_t bytes_to_find(const Tensor& matrix, const ProjectionOptions& options) {
  const int64_t before = cuda::bytes_to_host();
  basis_of(matrix, options);
  return cuda::bytes_to_host() - before;
}

int64_t bytes_of_factor(const ProjectionOptions& options) {
  const int64_t width = options.rank + options.oversampling;
  return width * width * 8;
}

// For both sides, two factors for each power iteration, two for the range and one for the vectors.
int64_t bytes_of_factors(const ProjectionOptions& options) {
  return 2 * (2 * options.power_iterations + 3) * bytes_of_factor(options);
}

// A basis of more directions than the matrix has keeps all of it, and is orthonormal.
void check_low_rank(const Tensor& g) {
  const bool precise = g.dtype() == f64;
  const optim::Basis basis = basis_of(g, kRangeFinder);
  CHECK(lost(basis, g) <= (precise ? 1e-13 : 1e-6));
  for (const Tensor& side : sides_of(basis))
    CHECK(lack_of_orthogonality(side) <= (precise ? 1e-12 : 1e-6));
}

// The directions that a step of an optimizer found for a bf16 parameter, on the CPU.
template <class Optimizer, class Options>
Tensor kept_directions(const Options& options, Device device) {
  Tensor p = to(noise({48, 64}, 9, bf16), device).detach().requires_grad_();
  p.set_grad(to(gradient(48, 64, bf16), device));
  Optimizer optimizer({NamedTensor{"p", p}}, options);
  optimizer.step();
  return to(optimizer.state_dict().at("p.left_basis"), Device::cpu());
}

}  // namespace

TEST_SUITE("cuda_projection") {
  TEST_CASE("the range finder's directions and signs are the CPU's, and the exact ones") {
    if (skipped_without_gpu()) return;
    for (const DType dtype : {f32, f64})
      for (const Shape& shape : {Shape{60, 90}, Shape{90, 60}, Shape{64, 64}})
        check_on_gpu(std::string(name(dtype)) + " " + std::to_string(shape[0]), [&] {
          const Tensor g = gradient(shape[0], shape[1], dtype);
          ProjectionOptions exact = kRangeFinder;
          exact.randomized = false;
          const auto there = sides_of(basis_of(to(g, kGpu), kRangeFinder));
          const auto here = sides_of(basis_of(g, kRangeFinder));
          const auto wanted = sides_of(basis_of(g, exact));
          const auto exact_there = sides_of(basis_of(to(g, kGpu), exact));
          const double tolerance = dtype == f64 ? 1e-11 : 1e-5;
          for (const size_t side : {0, 1}) {
            CHECK(golden_deviation(there[side], here[side]) <= tolerance);
            CHECK(golden_deviation(exact_there[side], wanted[side]) == 0.0);
            CHECK(lack_of_orthogonality(there[side]) <= (dtype == f64 ? 1e-13 : 1e-6));
            const Tensor inside = matmul(t(wanted[side]), there[side]);
            CHECK(sum(square(inside)).item<double>() >=
                  static_cast<double>(kRangeFinder.rank) - 1e-3);
          }
        });
  }

  TEST_CASE("the host sees squares of rank + oversampling numbers alone") {
    if (skipped_without_gpu()) return;
    const Tensor g = to(gradient(300, 200), kGpu);
    const int64_t thin = 200 * kRangeFinder.rank * 8;
    ProjectionOptions options = kRangeFinder;
    for (const int64_t powers : {0, 1}) {
      options.power_iterations = powers;
      CHECK(bytes_to_find(g, options) == bytes_of_factors(options));
      CHECK(bytes_of_factors(options) < thin);
    }
    options.randomized = false;
    CHECK(bytes_to_find(g, options) == 2 * g.nbytes());
  }

  // The sides of these two are such that whole columns would show among the bytes.
  TEST_CASE("a gradient of lower rank than the basis, up to its rounding, stays on the GPU too") {
    if (skipped_without_gpu()) return;
    for (const DType dtype : {f32, f64})
      for (const int64_t rank : {1, 3})
        check_on_gpu(std::string(name(dtype)) + " " + std::to_string(rank), [&] {
          const Tensor g =
              to(matmul(noise({203, rank}, 5, dtype), noise({rank, 150}, 6, dtype)), kGpu);
          check_low_rank(g);
          const int64_t bytes = bytes_to_find(g, kRangeFinder);
          CHECK(bytes % bytes_of_factor(kRangeFinder) == 0);
          CHECK(bytes <= 4 * bytes_of_factors(kRangeFinder));
        });
  }

  TEST_CASE("equal rows, whose images are dependent to the last bit, are left to the host") {
    if (skipped_without_gpu()) return;
    for (const DType dtype : {f32, f64})
      check_on_gpu(name(dtype), [&] {
        const Tensor g = to(ones({73, 1}, dtype) * noise({1, 54}, 7, dtype), kGpu);
        check_low_rank(g);
        if (gpu_is_emulated())
          CHECK(bytes_to_find(g, kRangeFinder) % bytes_of_factor(kRangeFinder) != 0);
      });
  }

  TEST_CASE("the same bits twice, and whether or not TF32 is allowed") {
    if (skipped_without_gpu()) return;
    const Tensor g = to(gradient(96, 128), kGpu);
    const auto first = sides_of(basis_of(g, kRangeFinder));
    const auto second = sides_of(basis_of(g, kRangeFinder));
    const bool before = cuda::tf32_allowed();
    cuda::allow_tf32(true);
    const auto allowed = sides_of(basis_of(g, kRangeFinder));
    CHECK(cuda::tf32_allowed());
    cuda::allow_tf32(before);
    for (const size_t side : {0, 1}) {
      CHECK(numbers(first[side]) == numbers(second[side]));
      CHECK(numbers(first[side]) == numbers(allowed[side]));
    }
  }

  TEST_CASE("a gradient of zeros leaves weights alone, and the next step finds directions") {
    if (skipped_without_gpu()) return;
    Tensor p = to(noise({40, 30}, 8), kGpu).detach().requires_grad_();
    const std::vector<double> before = p.to_vector<double>();
    optim::GaloreAdamW optimizer({NamedTensor{"p", p}}, {.lr = 0.1, .projection = kRangeFinder});
    p.set_grad(zeros({40, 30}, f32, kGpu));
    optimizer.step();
    CHECK(p.to_vector<double>() == before);
    p.set_grad(to(gradient(40, 30), kGpu));
    optimizer.step();
    double moved = 0.0;
    const std::vector<double> after = p.to_vector<double>();
    for (size_t i = 0; i < after.size(); ++i)
      moved = std::max(moved, std::abs(after[i] - before[i]));
    CHECK(moved > 1e-3);
    CHECK(moved < 1.0);  // not NaN either
  }

  TEST_CASE("bf16 weights and gradients get the CPU's directions, from GaLore and APOLLO") {
    if (skipped_without_gpu()) return;
    const auto check = [](const auto& directions) {
      const Tensor there = directions(kGpu), here = directions(Device::cpu());
      CHECK(here.dtype() == f32);
      CHECK(golden_deviation(there, here) <= 1e-5);
      CHECK(lack_of_orthogonality(to(there, f64)) <= 1e-6);
    };
    const optim::GaloreAdamWOptions galore = {
        .projection = {{.rank = 6, .randomized = true, .oversampling = 4}}};
    const optim::ApolloAdamWOptions apollo = {
        .projection = {{.rank = 6, .basis = optim::ApolloBasis::svd, .randomized = true}}};
    check([&](Device device) { return kept_directions<optim::GaloreAdamW>(galore, device); });
    check([&](Device device) { return kept_directions<optim::ApolloAdamW>(apollo, device); });
  }
}
