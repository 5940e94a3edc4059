// Every optimizer on a GPU beside itself on the CPU, from the same weights and gradients.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/layerwise.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "cuda_optimizer_cases.h"
#include "cuda_tools.h"
#include "golden_values.h"
#include "op_harness.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

const Device kGpu = Device::cuda();

// Whole blocks of 256 and parts of one, more than a piece of a launch, memory that allows no wide
// accesses, and a name that Muon leaves to AdamW.
struct Given {
  const char* name;
  Shape shape;
  bool unaligned = false;
};
const std::vector<Given> kGiven = {{"h.0.weight", {24, 40}},  {"h.0.bias", {33}},
                                   {"h.1.weight", {96, 100}}, {"h.1.odd", {13, 9}, true},
                                   {"h.1.scale", {515}},      {"wte.weight", {20, 12}}};

Tensor drawn(const Shape& shape, uint64_t position, DType dtype) {
  return to(randn(shape, f32, RandomKey{.seed = 9, .position = position}), dtype);
}

// The same numbers in memory that begins one element after an aligned address.
Tensor shifted(const Tensor& x) {
  const Tensor room = zeros({x.numel() + 1}, x.dtype(), x.device());
  const Tensor view = reshape(slice(room, 0, 1, x.numel() + 1), x.shape());
  copy_(view, x);
  return view;
}

struct Training {
  DType dtype;
  Device device;
  std::vector<NamedTensor> parameters;
  std::unique_ptr<optim::Optimizer> optimizer;
  uint64_t steps = 0;

  Training(const OptimizerCase& one, DType dtype, Device device) : dtype(dtype), device(device) {
    for (size_t i = 0; i < kGiven.size(); ++i) {
      const Tensor value = to(drawn(kGiven[i].shape, i, dtype), device);
      Tensor parameter = (kGiven[i].unaligned ? shifted(value) : value).detach();
      parameters.push_back({kGiven[i].name, parameter.requires_grad_()});
    }
    optimizer = one.make(parameters);
  }

  // One of them strided.
  Tensor gradient_of(size_t i) const {
    const Shape& shape = kGiven[i].shape;
    const uint64_t position = 100 + 10 * steps + i;
    if (i != 3) return to(drawn(shape, position, dtype), device);
    return transpose(to(drawn({shape[1], shape[0]}, position, dtype), device), 0, 1);
  }

  void set_gradients() {
    for (size_t i = 0; i < parameters.size(); ++i) parameters[i].tensor.set_grad(gradient_of(i));
    ++steps;
  }

  // Lomo updates during backward; its rule is the same.
  void step() {
    set_gradients();
    optimizer->step();
  }
  void steps_to(uint64_t count) {
    while (steps < count) step();
  }

  // As one who sets weights by hand does, of whom the optimizer hears nothing.
  void set_a_weight() {
    const NoGradGuard no_grad;
    copy_(parameters[2].tensor, to(drawn(kGiven[2].shape, 77, dtype), device));
  }
};

// The largest deviation of weights and floating-point state. Codes are compared in same_bits()
// alone.
double farthest(const Training& gpu, const Training& cpu) {
  double worst = 0.0;
  for (size_t i = 0; i < cpu.parameters.size(); ++i)
    worst = std::max(worst, golden_deviation(gpu.parameters[i].tensor.detach(),
                                             cpu.parameters[i].tensor.detach()));
  const StateDict there = gpu.optimizer->state_dict(), here = cpu.optimizer->state_dict();
  CHECK(there.size() == here.size());
  for (const auto& [name, tensor] : here) {
    REQUIRE(there.contains(name));
    CHECK(there.at(name).dtype() == tensor.dtype());
    if (is_floating(tensor.dtype()))
      worst = std::max(worst, golden_deviation(there.at(name), tensor));
  }
  return worst;
}

bool same_bits(const Training& a, const Training& b) {
  for (size_t i = 0; i < a.parameters.size(); ++i)
    if (!testing::same_bits(a.parameters[i].tensor, b.parameters[i].tensor)) return false;
  const StateDict first = a.optimizer->state_dict(), second = b.optimizer->state_dict();
  for (const auto& [name, tensor] : first)
    if (!second.contains(name) || !testing::same_bits(tensor, second.at(name))) return false;
  return first.size() == second.size();
}

void check_close(const Training& gpu, const Training& cpu, double tolerance) {
  if (tolerance == 0.0)
    CHECK(same_bits(gpu, cpu));
  else
    CHECK(farthest(gpu, cpu) <= tolerance);
}

}  // namespace

TEST_SUITE("cuda_optimizers") {
  TEST_CASE("five steps on a GPU are five steps on the CPU") {
    if (skipped_without_gpu()) return;
    for (const OptimizerCase& one : optimizer_cases())
      check_on_gpu(one.name, [&] {
        Training gpu(one, f32, kGpu), cpu(one, f32, Device::cpu());
        const std::vector<float> before = cpu.parameters[0].tensor.to_vector<float>();
        gpu.steps_to(5);
        cpu.steps_to(5);
        check_close(gpu, cpu, one.tolerance);
        CHECK(cpu.parameters[0].tensor.to_vector<float>() != before);
      });
  }

  TEST_CASE("in f64, and with 16-bit weights, of which somebody else sets one") {
    if (skipped_without_gpu()) return;
    for (const OptimizerCase& one : optimizer_cases())
      for (const DType dtype : {f64, bf16, f16})
        check_on_gpu(one.name + " " + name(dtype), [&] {
          Training gpu(one, dtype, kGpu), cpu(one, dtype, Device::cpu());
          for (Training* training : {&gpu, &cpu}) {
            training->steps_to(2);
            training->set_a_weight();
            training->steps_to(3);
          }
          // A master between two 16-bit numbers may round to either; a difference of the last bit
          // of a weight is what the weight's own rounding allows.
          const double spacing = dtype == bf16 ? 0x1p-7 : 0x1p-10;
          check_close(gpu, cpu, dtype == f64 ? 1e-9 : one.tolerance == 0.0 ? 0.0 : spacing);
          if (dtype == f64) return;
          const StateDict there = gpu.optimizer->state_dict();
          for (const auto& [key, tensor] : cpu.optimizer->state_dict())
            if (key.ends_with(".master"))
              CHECK(golden_deviation(there.at(key), tensor) <= std::max(1e-6, one.tolerance));
        });
  }

  TEST_CASE("a step that finds no new directions does not make the host wait") {
    if (skipped_without_gpu()) return;
    for (const OptimizerCase& one : optimizer_cases())
      check_on_gpu(one.name, [&] {
        Training gpu(one, f32, kGpu);
        gpu.step();
        gpu.set_gradients();
        cuda::synchronize();
        const int64_t before = cuda::synchronization_count();
        gpu.optimizer->step();
        CHECK(cuda::synchronization_count() == before);
      });
  }

  TEST_CASE("a state moves between CPU and GPU, with the model or by itself") {
    if (skipped_without_gpu()) return;
    for (const OptimizerCase& one : optimizer_cases())
      check_on_gpu(one.name, [&] {
        Training all(one, f32, Device::cpu()), first(one, f32, Device::cpu());
        all.steps_to(4);
        first.steps_to(2);
        Training second(one, f32, kGpu);
        for (size_t i = 0; i < first.parameters.size(); ++i) {
          const NoGradGuard no_grad;
          copy_(second.parameters[i].tensor, to(first.parameters[i].tensor, kGpu));
        }
        second.optimizer->load_state_dict(first.optimizer->state_dict());
        CHECK(same_bits(second, first));
        second.steps = 2;
        second.steps_to(3);
        for (NamedTensor& entry : second.parameters)
          entry.tensor.set_data(to(entry.tensor.detach(), Device::cpu()));
        second.device = Device::cpu();
        second.steps_to(4);
        check_close(second, all, one.tolerance);
      });
  }

  TEST_CASE("groups with rates of their own, and more parameters than a launch takes") {
    if (skipped_without_gpu()) return;
    const auto trained = [](Device device) {
      std::vector<NamedTensor> groups[2];
      for (uint64_t i = 0; i < 150; ++i) {
        Tensor p = to(drawn({static_cast<int64_t>(1 + i % 7)}, i, f32), device).detach();
        p.requires_grad_().set_grad(to(drawn(p.shape(), 500 + i, f32), device));
        groups[i % 2].push_back({std::to_string(i), p});
      }
      optim::AdamW optimizer(groups[0], {.lr = 0.1});
      optimizer.add_param_group(groups[1], {.lr = 0.01, .weight_decay = 0.5});
      optimizer.step();
      std::vector<double> values;
      for (const auto& group : groups)
        for (const NamedTensor& entry : group)
          for (const double value : entry.tensor.to_vector<double>()) values.push_back(value);
      return Tensor::from(values, {static_cast<int64_t>(values.size())});
    };
    CHECK(golden_deviation(trained(kGpu), trained(Device::cpu())) <= 1e-6);
  }

  TEST_CASE("gradients of another dtype than the parameter's") {
    if (skipped_without_gpu()) return;
    for (const DType dtype : {f64, f32, bf16, f16})
      for (const DType gradient : {f64, f32, bf16, f16}) {
        Tensor values[2], means[2];
        for (const int i : {0, 1}) {
          const Device device = i == 0 ? Device::cpu() : kGpu;
          values[i] = clone(to(drawn({1000}, 1, dtype), device));
          const DType state = ops::state_dtype(dtype);
          means[i] = zeros({1000}, state, device);
          ops::adamw_step(values[i], to(drawn({1000}, 2, gradient), device),
                          {.mean = means[i],
                           .square = zeros({1000}, state, device),
                           .max_square = {},
                           .master = dtype == state ? Tensor() : to(values[i], state)},
                          {.lr = 0.01});
        }
        CHECK(golden_deviation(means[1], means[0]) <= 1e-6);
        CHECK(golden_deviation(values[1], values[0]) <= (size_of(dtype) < 4 ? 0x1p-7 : 1e-6));
      }
  }
}
