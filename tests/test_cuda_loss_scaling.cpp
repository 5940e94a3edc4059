// Loss scaling on a GPU: a loop that never waits does what one that waits at every step does, to
// the bit, whichever steps overflow.
#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include <tendril/core/ops/loss_scaling.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/tendril.h>

#include "cuda_optimizer_cases.h"
#include "cuda_tools.h"
#include "op_harness.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

const Device kGpu = gpu_under_test();
constexpr double kScale = 1024.0;  // a power of two: scaling and back changes no bit

std::vector<Device> devices() {
  return cuda::is_available() ? std::vector<Device>{Device::cpu(), kGpu}
                              : std::vector<Device>{Device::cpu()};
}

Tensor number(int64_t value, Device device) {
  return full({}, static_cast<double>(value), i64, device);
}

bool same_state(const StateDict& a, const StateDict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a)
    if (!b.contains(name) || !same_bits(tensor, b.at(name))) return false;
  return true;
}

// ---- a few parameters, whose gradients are drawn anew in every step

const std::vector<Shape> kShapes = {{12, 20}, {33}, {515}, {30, 24}};
const char* const kNames[] = {"h.0.weight", "h.0.bias", "h.1.scale", "wte.weight"};

struct Parameters {
  std::vector<NamedTensor> list;
  std::unique_ptr<optim::Optimizer> optimizer;

  Parameters(const OptimizerCase& one, DType dtype) {
    for (size_t i = 0; i < kShapes.size(); ++i) {
      const Tensor value = randn(kShapes[i], f32, RandomKey{.seed = 4, .position = i});
      list.push_back({kNames[i], to(to(value, dtype), kGpu).requires_grad_()});
    }
    optimizer = one.make(list);
  }

  // Of this step, times `factor`; `broken`: with an infinity in the last of them.
  void set_gradients(uint64_t step, double factor, bool broken = false) {
    for (size_t i = 0; i < list.size(); ++i) {
      Tensor& parameter = list[i].tensor;
      const Tensor drawn =
          randn(kShapes[i], f32, RandomKey{.seed = 5, .position = 10 * step + i}) * factor;
      if (broken && i + 1 == list.size()) fill_(select(select(drawn, 0, 7), 0, 20), INFINITY);
      parameter.set_grad(to(to(drawn, parameter.dtype()), kGpu));
    }
  }

  bool same_as(const Parameters& other) const {
    for (size_t i = 0; i < list.size(); ++i)
      if (!same_bits(list[i].tensor, other.list[i].tensor)) return false;
    return same_state(optimizer->state_dict(), other.optimizer->state_dict());
  }
};

// The first, two in a row, and the last.
bool overflows(uint64_t step) { return step == 0 || step == 4 || step == 5 || step == 11; }

// 12 steps with a scaler, of which nobody asks anything; how often the host has waited.
int64_t run_scaled(Parameters& parameters, optim::GradScaler& scaler) {
  const auto step = [&](uint64_t number, double scale) {
    parameters.set_gradients(number, scale, overflows(number));
    scaler.step(*parameters.optimizer);
    scaler.update();
  };
  double scale = kScale;
  int64_t waits = 0;
  for (uint64_t i = 0; i < 12; ++i) {
    const int64_t before = cuda::synchronization_count();
    step(i, scale);
    waits += cuda::synchronization_count() - before;
    if (overflows(i)) scale /= 2.0;
  }
  return waits;
}

void check_like_steps_of_a_host_that_knows(const OptimizerCase& one, DType dtype, bool may_wait) {
  Parameters scaled(one, dtype), known(one, dtype);
  optim::GradScaler scaler({.init_scale = kScale});
  const int64_t waited = run_scaled(scaled, scaler);
  CHECK((may_wait || waited == 0));
  for (uint64_t i = 0; i < 12; ++i) {
    if (overflows(i)) continue;
    known.set_gradients(i, 1.0);
    known.optimizer->step();
  }
  CHECK(scaled.same_as(known));
  CHECK(scaler.scale() == kScale / 16.0);
  CHECK(scaled.optimizer->state_dict().at("h.0.bias.step").item<int64_t>() == 8);
}

// All optimizers, but for those with projections, which are no other to the scaler than the rest of
// those that wait, and take long; and what else may depend on the number of the step.
std::vector<OptimizerCase> cases() {
  std::vector<OptimizerCase> list;
  for (const OptimizerCase& one : optimizer_cases())
    if (!one.name.starts_with("galore") && !one.name.starts_with("apollo")) list.push_back(one);
  const auto add = [&]<class Optimizer, class Options>(const char* name, const Options& options,
                                                       std::type_identity<Optimizer>) {
    list.push_back({name,
                    [options](const std::vector<NamedTensor>& parameters)
                        -> std::unique_ptr<optim::Optimizer> {
                      return std::make_unique<Optimizer>(parameters, options);
                    },
                    0.0});
  };
  using namespace optim;
  add("sgd with dampening, rounded at random",
      SgdOptions{.lr = 0.05, .momentum = 0.9, .dampening = 0.5, .stochastic_rounding = true},
      std::type_identity<Sgd>());
  add("adamw, rounded at random", AdamWOptions{.lr = 0.02, .stochastic_rounding = true},
      std::type_identity<AdamW>());
  add("adamw_8bit, rounded at random",
      AdamW8bitOptions{.lr = 0.02, .quantization = {.min_size = 300}, .stochastic_rounding = true},
      std::type_identity<AdamW8bit>());
  return list;
}

// As docs/optimizers.md has it.
bool needs_no_wait(const std::string& name) {
  for (const char* kind : {"sgd", "adam", "adagrad", "lion", "ademamix"})
    if (name.starts_with(kind)) return true;
  return name.find("rmsprop") != std::string::npos;
}

}  // namespace

TEST_SUITE("cuda_loss_scaling") {
  TEST_CASE("unscaling divides every gradient and finds what is not finite") {
    for (const Device device : devices())
      for (const DType dtype : {f64, f32, bf16, f16}) {
        CAPTURE(name(dtype));
        const Tensor drawn = to(randn({34, 1000}, f32, RandomKey{.seed = 1}), dtype);
        const Tensor expected = to(to(drawn, f64) * 0.125, dtype);
        for (const double bad :
             {1.0, static_cast<double>(INFINITY), -static_cast<double>(INFINITY), std::nan("")}) {
          const Tensor first = to(clone(drawn), device);
          const Tensor strided = transpose(to(clone(transpose(drawn)), device));
          const Tensor last = full({3}, 8.0, dtype, device), found = number(0, device);
          fill_(select(last, 0, 2), bad);
          const std::vector<Tensor> all = {first, strided, zeros({0}, dtype, device), last};
          ops::unscale_all(all, full({}, 8.0, f32, device), found);
          CHECK(found.item<int64_t>() == (std::isfinite(bad) ? 0 : 1));
          CHECK(same_bits(first, expected));
          CHECK(same_bits(strided, expected));
          CHECK(last.to_vector<double>()[0] == 1.0);
        }
      }
    const Tensor found = number(1, Device::cpu());
    const Tensor finite = ones({2});
    ops::unscale_all({&finite, 1}, ones({}), found);
    CHECK(found.item<int64_t>() == 1);  // what is found stays found
    CHECK_THROWS_AS(ops::unscale_all({&finite, 1}, ones({2}), found), Error);
    CHECK_THROWS_AS(ops::unscale_all({&finite, 1}, ones({}), zeros({})), Error);
  }

  TEST_CASE("a scale moves on a GPU as on the CPU") {
    const ops::LossScaleRule rule = {
        .growth_factor = 1.7, .backoff_factor = 0.3, .growth_interval = 3};
    std::vector<std::vector<double>> courses;
    for (const Device device : devices()) {
      const Tensor scale = full({}, 1e38, f32, device), tracker = number(0, device);
      std::vector<double>& course = courses.emplace_back();
      for (int i = 0; i < 40; ++i) {
        ops::update_loss_scale(scale, tracker, number(i % 11 == 10, device), rule);
        course.push_back(scale.item<float>());
        course.push_back(static_cast<double>(tracker.item<int64_t>()));
      }
      CHECK(course == courses.front());
      CHECK(std::isfinite(course.back()));
    }
  }

  TEST_CASE("a gate opens for its verdict alone") {
    for (const Device device : devices()) {
      const Tensor verdict = ops::step_verdict(number(0, device), number(5, device), 3);
      CHECK(verdict.item<int64_t>() == 2);
      const Tensor none = ops::step_verdict(number(1, device), number(5, device), 3);
      CHECK(none.item<int64_t>() == -1);
      const auto stepped = [&](const ops::StepGate& gate) {
        const Tensor p = full({4}, 3.0, f32, device);
        const ops::SgdUpdate update = {.parameter = p,
                                       .gradient = ones({4}, f32, device),
                                       .state = {},
                                       .options = {.lr = 1.0}};
        ops::sgd_steps({&update, 1}, gate);
        return p.to_vector<float>()[3] == 2.0f;
      };
      CHECK(stepped({}));
      CHECK(stepped({verdict, 2}));
      CHECK_FALSE(stepped({verdict, 1}));
      for (const int64_t opens_at : {0, 1, 2}) CHECK_FALSE(stepped({none, opens_at}));
    }
    CHECK_THROWS_AS(ops::step_verdict(zeros({}), number(0, Device::cpu()), 0), Error);
  }

  TEST_CASE("steps that a GPU leaves out by itself are steps that were never asked for") {
    if (skipped_without_gpu()) return;
    for (const OptimizerCase& one : cases())
      for (const DType dtype : {f32, bf16})
        if (dtype == f32 || needs_no_wait(one.name))
          check_on_gpu(one.name + " " + name(dtype), [&] {
            check_like_steps_of_a_host_that_knows(one, dtype, !needs_no_wait(one.name));
          });
  }

  TEST_CASE("the host may look at any time, and parameters may come and go") {
    if (skipped_without_gpu()) return;
    const OptimizerCase adamw = {
        "adamw",
        [](const std::vector<NamedTensor>& list) -> std::unique_ptr<optim::Optimizer> {
          return std::make_unique<optim::AdamW>(list, optim::AdamWOptions{.lr = 0.02});
        },
        0.0};
    Parameters scaled(adamw, f32), known(adamw, f32);
    optim::GradScaler scaler({.init_scale = kScale});
    double scale = kScale;
    for (uint64_t i = 0; i < 14; ++i) {
      CAPTURE(i);
      const bool broken = i % 3 == 1;
      scaled.set_gradients(i, scale, broken);
      known.set_gradients(i, 1.0);
      if (i % 5 == 3)
        for (Parameters* each : {&scaled, &known}) each->list[1].tensor.set_grad({});
      const optim::StepResult updated = scaler.step(*scaled.optimizer);
      scaler.update();
      if (broken) scale /= 2.0;
      if (!broken) known.optimizer->step();
      if (i % 4 == 2) {
        CHECK(updated == !broken);
        CHECK(updated.is_known());
      }
      if (i == 6) CHECK(scaled.same_as(known));
      if (i == 7) {  // a step without the scaler
        for (Parameters* each : {&scaled, &known}) {
          each->set_gradients(100, 1.0);
          each->optimizer->step();
        }
      }
      if (i == 10)  // another group
        for (Parameters* each : {&scaled, &known}) {
          each->list.push_back({"late", ones({5}, f32, kGpu).requires_grad_()});
          dynamic_cast<optim::AdamW&>(*each->optimizer).add_param_group({each->list.back()});
          each->list.pop_back();
        }
    }
    CHECK(scaled.same_as(known));
    CHECK(scaler.scale() == scale);
  }

  TEST_CASE("parameters on two devices are waited for") {
    if (skipped_without_gpu()) return;
    Tensor here = ones({2}).requires_grad_(), there = ones({2}, f32, kGpu).requires_grad_();
    optim::Sgd optimizer({NamedTensor{"here", here}, NamedTensor{"there", there}}, {.lr = 1.0});
    optim::GradScaler scaler({.init_scale = 4.0});
    const auto step = [&](double first, double second) {
      here.set_grad(full({2}, first));
      there.set_grad(full({2}, second, f32, kGpu));
      const bool updated = scaler.step(optimizer);
      scaler.update();
      return updated;
    };
    CHECK_FALSE(step(1.0, INFINITY));
    CHECK_FALSE(step(std::nan(""), 1.0));
    CHECK(step(1.0, 2.0));
    CHECK(here.to_vector<float>() == std::vector<float>(2, 0.0f));
    CHECK(there.to_vector<float>() == std::vector<float>(2, -1.0f));
  }
}

// ---- a model in f16

namespace {

constexpr int64_t kVocabulary = 23, kContext = 8;

struct Training {
  nn::models::Gpt2 model;
  optim::AdamW optimizer;
  // Doubles every second step: sooner or later it is too large.
  optim::GradScaler scaler{{.init_scale = 4096.0, .growth_factor = 8.0, .growth_interval = 2}};
  Device device;
  uint64_t steps = 0;

  explicit Training(Device on)
      : model((manual_seed(3), nn::models::Gpt2Config{.vocab_size = kVocabulary,
                                                      .n_positions = kContext,
                                                      .n_layer = 1,
                                                      .n_head = 2,
                                                      .n_embd = 16,
                                                      .embd_pdrop = 0.0,
                                                      .attn_pdrop = 0.0,
                                                      .resid_pdrop = 0.0})),
        optimizer(model.named_parameters(), {.lr = 3e-3}),
        device(on) {
    model.to(device);
  }

  Tensor batch(uint64_t number) const {
    const RandomKey key{number, 0, Stream::data};
    return to(randint(0, kVocabulary, {1, kContext + 1}, i64, key), device);
  }
  Tensor loss_of(const Tensor& tokens) {
    const AutocastGuard autocast(f16);
    return model.loss(slice(tokens, 1, 0, kContext), slice(tokens, 1, 1, kContext + 1));
  }
  optim::StepResult update() {
    scaler.unscale(optimizer);
    optim::clip_grad_norm_async(optimizer.parameters(), 1.0);
    const optim::StepResult result = scaler.step(optimizer);
    scaler.update();
    return result;
  }
  optim::StepResult step(const Tensor& tokens) {
    optimizer.zero_grad();
    scaler.scale(loss_of(tokens)).backward();
    return update();
  }
  optim::StepResult step() { return step(batch(steps++)); }

  bool same_as(const Training& other) const {
    return same_state(model.state_dict(), other.model.state_dict()) &&
           same_state(optimizer.state_dict(), other.optimizer.state_dict()) &&
           scaler.state().dump() == other.scaler.state().dump();
  }
};

}  // namespace

TEST_SUITE("cuda_loss_scaling") {
  TEST_CASE("a step in f16 never makes the host wait") {
    if (skipped_without_gpu()) return;
    Training training(kGpu);
    const Tensor tokens = training.batch(0);
    for (int i = 0; i < 3; ++i) training.step(tokens);
    cuda::synchronize(kGpu);
    const int64_t before = cuda::synchronization_count();
    for (int i = 0; i < 12; ++i) training.step(tokens);
    CHECK(cuda::synchronization_count() == before);
    const StateDict state = training.optimizer.state_dict();
    const int64_t taken = state.at("transformer.wte.weight.step").item<int64_t>();
    CHECK(taken > 5);
    CHECK(taken < 15);  // some have overflowed
  }

  TEST_CASE("a run in f16 on a GPU leaves out what the CPU leaves out") {
    if (skipped_without_gpu()) return;
    Training cpu(Device::cpu()), gpu(kGpu);
    int left_out = 0;
    for (int i = 0; i < 16; ++i) {
      CAPTURE(i);
      const bool updated = cpu.step();
      CHECK(gpu.step() == updated);
      CHECK(gpu.scaler.scale() == cpu.scaler.scale());
      left_out += !updated;
    }
    CHECK(left_out >= 2);
    CHECK(left_out <= 10);
    const StateDict there = gpu.optimizer.state_dict();
    for (const auto& [name, tensor] : cpu.optimizer.state_dict())
      if (name.ends_with(".step")) CHECK(same_bits(there.at(name), tensor));
    const double distance = std::abs(gpu.loss_of(gpu.batch(99)).item<double>() -
                                     cpu.loss_of(cpu.batch(99)).item<double>());
    CHECK(distance <= 0.02);
  }

  TEST_CASE("who asks after every step, never, or resumes in the middle trains the same") {
    if (skipped_without_gpu()) return;
    Training silent(kGpu), curious(kGpu);
    std::vector<bool> updated;
    for (int i = 0; i < 12; ++i) {
      silent.step();
      updated.push_back(curious.step());
    }
    CHECK(silent.same_as(curious));
    CHECK(std::count(updated.begin(), updated.end(), false) >= 2);

    Training resumed(kGpu);  // at each of the next steps, one that overflows among them
    bool after_overflow = false;
    for (int i = 0; i < 4; ++i) {
      const bool moved = silent.step();
      after_overflow |= !moved;
      resumed.model.load_state_dict(silent.model.state_dict());
      resumed.optimizer.load_state_dict(silent.optimizer.state_dict());
      resumed.scaler.load_state(Json::parse(silent.scaler.state().dump(), "a checkpoint"));
      CHECK(resumed.same_as(silent));
      resumed.steps = silent.steps;
      for (Training* each : {&silent, &resumed}) each->step();
      CHECK(resumed.same_as(silent));
    }
    CHECK(after_overflow);
  }

  TEST_CASE("a recorded pass sees the scale move; what the host may ask for cannot be recorded") {
    if (skipped_without_gpu()) return;
    Training replaying(kGpu), eager(kGpu);
    const Tensor tokens = replaying.batch(0);
    const cuda::Graph graph(
        [&] {
          replaying.optimizer.zero_grad();
          replaying.scaler.scale(replaying.loss_of(tokens)).backward();
        },
        kGpu);
    for (uint64_t i = 0; i < 8; ++i) {
      copy_(tokens, replaying.batch(i));
      graph.replay();
      replaying.update();
      eager.step(tokens);
      CHECK(replaying.same_as(eager));
    }
    CHECK(eager.scaler.scale() != 4096.0);
    CHECK(contains(message_of([&] { cuda::Graph([&] { eager.step(tokens); }, kGpu); }), "[Graph]"));
  }
}
