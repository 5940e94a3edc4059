// Every optimizer against reference implementations over 100 steps (tests/golden/optimizers.py),
// and what all have in common: state that continues exactly, and masters of 16-bit parameters.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/creation.h>
#include <tendril/core/threads.h>
#include <tendril/optim/adafactor.h>
#include <tendril/optim/adagrad.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/ademamix.h>
#include <tendril/optim/lion.h>
#include <tendril/optim/muon.h>
#include <tendril/optim/rmsprop.h>
#include <tendril/optim/schedule_free.h>
#include <tendril/optim/sgd.h>
#include <tendril/optim/stable_adamw.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "golden_values.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

class ThreadLimit {
 public:
  explicit ThreadLimit(int count) : before_(num_threads()) { set_num_threads(count); }
  ~ThreadLimit() { set_num_threads(before_); }

 private:
  int before_;
};

using Parameters = std::vector<NamedTensor>;
using Make = std::function<std::unique_ptr<optim::Optimizer>(const Parameters&)>;

template <class Optimizer, class Options>
Make with(const Options& options) {
  return [options](const Parameters& list) { return std::make_unique<Optimizer>(list, options); };
}

Make muon_with(const optim::MuonOptions& options) {
  return [options](const Parameters& list) {
    const optim::MuonSplit split = optim::split_for_muon(list);
    auto optimizer = std::make_unique<optim::Muon>(split.matrices, options);
    optimizer->add_adamw_group(split.rest);
    return optimizer;
  };
}

struct Case {
  const char* name;
  Make make;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> kCases = {
      {"sgd", with<optim::Sgd>(optim::SgdOptions{
                  .lr = 0.05, .momentum = 0.9, .dampening = 0.1, .weight_decay = 0.05})},
      {"adamw", with<optim::AdamW>(optim::AdamWOptions{
                    .lr = 0.02, .beta1 = 0.8, .beta2 = 0.95, .weight_decay = 0.1})},
      {"adam", with<optim::Adam>(optim::AdamOptions{.lr = 0.02, .weight_decay = 0.1})},
      {"adam_amsgrad",
       with<optim::Adam>(optim::AdamOptions{
           .lr = 0.02, .beta1 = 0.8, .beta2 = 0.9, .amsgrad = true, .maximize = true})},
      {"adagrad", with<optim::Adagrad>(optim::AdagradOptions{.lr = 0.1})},
      {"adagrad_all", with<optim::Adagrad>(optim::AdagradOptions{.lr = 0.1,
                                                                 .lr_decay = 0.1,
                                                                 .weight_decay = 0.05,
                                                                 .initial_accumulator_value = 0.2,
                                                                 .eps = 1e-3,
                                                                 .maximize = true})},
      {"rmsprop", with<optim::RmsProp>(optim::RmsPropOptions{})},
      {"rmsprop_momentum",
       with<optim::RmsProp>(optim::RmsPropOptions{.momentum = 0.9, .maximize = true})},
      {"rmsprop_centered",
       with<optim::RmsProp>(optim::RmsPropOptions{.alpha = 0.9, .eps = 1e-4, .centered = true})},
      {"rmsprop_all", with<optim::RmsProp>(optim::RmsPropOptions{
                          .alpha = 0.9, .weight_decay = 0.05, .momentum = 0.5, .centered = true})},
      {"lion", with<optim::Lion>(optim::LionOptions{.lr = 0.01})},
      {"lion_decay", with<optim::Lion>(optim::LionOptions{
                         .lr = 0.0078125, .beta1 = 0.8, .beta2 = 0.95, .weight_decay = 0.1})},
      {"ademamix", with<optim::AdEmaMix>(optim::AdEmaMixOptions{.lr = 0.01})},
      {"ademamix_warmup", with<optim::AdEmaMix>(
                              optim::AdEmaMixOptions{.lr = 0.01,
                                                     .beta1 = 0.8,
                                                     .beta2 = 0.95,
                                                     .beta3 = 0.999,
                                                     .alpha = 8.0,
                                                     .weight_decay = 0.1,
                                                     .t_alpha = 60,
                                                     .t_beta3 = 60})},
      {"adafactor", with<optim::Adafactor>(optim::AdafactorOptions{
                        .lr = 0.01, .scale_parameter = false, .relative_step = false})},
      {"adafactor_relative", with<optim::Adafactor>(optim::AdafactorOptions{})},
      {"adafactor_warmup", with<optim::Adafactor>(optim::AdafactorOptions{
                               .clip_threshold = 0.5, .decay_rate = -0.6, .warmup_init = true})},
      {"adafactor_all", with<optim::Adafactor>(optim::AdafactorOptions{.lr = 0.02,
                                                                       .eps_square = 1e-4,
                                                                       .eps_scale = 0.2,
                                                                       .beta1 = 0.9,
                                                                       .weight_decay = 0.1,
                                                                       .relative_step = false})},
      {"stable_adamw", with<optim::StableAdamW>(optim::StableAdamWOptions{.lr = 0.005})},
      {"stable_adamw_decoupled",
       with<optim::StableAdamW>(optim::StableAdamWOptions{.lr = 0.005,
                                                          .beta1 = 0.8,
                                                          .beta2 = 0.95,
                                                          .eps = 1e-2,
                                                          .weight_decay = 0.001,
                                                          .decouple_lr = true,
                                                          .max_lr = 0.04})},
      {"schedule_free_adamw",
       with<optim::ScheduleFreeAdamW>(optim::ScheduleFreeAdamWOptions{.lr = 0.02})},
      {"schedule_free_adamw_all",
       with<optim::ScheduleFreeAdamW>(optim::ScheduleFreeAdamWOptions{.lr = 0.02,
                                                                      .beta1 = 0.95,
                                                                      .beta2 = 0.99,
                                                                      .weight_decay = 0.1,
                                                                      .warmup_steps = 20,
                                                                      .r = 0.5,
                                                                      .weight_lr_power = 1.0})},
      {"schedule_free_sgd", with<optim::ScheduleFreeSgd>(optim::ScheduleFreeSgdOptions{.lr = 0.1})},
      {"schedule_free_sgd_all",
       with<optim::ScheduleFreeSgd>(optim::ScheduleFreeSgdOptions{.lr = 0.1,
                                                                  .momentum = 0.8,
                                                                  .weight_decay = 0.1,
                                                                  .warmup_steps = 20,
                                                                  .r = 0.5,
                                                                  .weight_lr_power = 1.0})},
      {"muon", muon_with({})},
      {"muon_all", muon_with({.lr = 0.01,
                              .momentum = 0.9,
                              .nesterov = false,
                              .weight_decay = 0.1,
                              .scale = optim::MuonScale::match_rms_adamw})},
  };
  return kCases;
}

constexpr int64_t kSteps = 100;
constexpr int64_t kKept[] = {1, 2, 10, 100};

using Golden = std::map<std::string, Tensor>;

const Golden& golden() {
  static const Golden kGolden = load_golden("optimizers");
  return kGolden;
}

// The two parameters of every case.
Parameters start(DType dtype) {
  Parameters list;
  for (const char* name : {"matrix", "vector"})
    list.push_back({name, clone(to(golden().at(name), dtype)).requires_grad_()});
  return list;
}

void set_gradients(Parameters& list, int64_t step) {
  for (NamedTensor& entry : list)
    entry.tensor.set_grad(
        to(select(golden().at(entry.name + ".grad"), 0, step), entry.tensor.dtype()));
}

void advance(optim::Optimizer& optimizer, Parameters& list, int64_t from, int64_t until) {
  for (int64_t step = from; step < until; ++step) {
    set_gradients(list, step);
    optimizer.step();
  }
}

std::vector<std::vector<double>> values(const Parameters& list) {
  std::vector<std::vector<double>> result;
  for (const NamedTensor& entry : list) result.push_back(entry.tensor.to_vector<double>());
  return result;
}

// The largest deviation from the kept steps of the reference.
double deviation(const Case& test, DType dtype) {
  Parameters list = start(dtype);
  const auto optimizer = test.make(list);
  double worst = 0.0;
  int64_t done = 0, row = 0;
  const auto compare = [&] {
    for (const NamedTensor& entry : list)
      worst = std::max(
          worst,
          golden_deviation(
              entry.tensor.detach(),
              contiguous(select(golden().at(std::string(test.name) + "/" + entry.name), 0, row))));
    ++row;
  };
  for (const int64_t step : kKept) {
    advance(*optimizer, list, done, step);
    done = step;
    compare();
  }
  if (golden().at(std::string(test.name) + "/vector").size(0) == row) return worst;
  optimizer->eval();
  compare();
  return worst;
}

StateDict deep_copy(const StateDict& state) {
  StateDict copies;
  for (const auto& [name, tensor] : state) copies.emplace(name, clone(tensor));
  return copies;
}

}  // namespace

TEST_SUITE("optimizers") {
  TEST_CASE("100 steps agree with the reference") {
    const ThreadLimit one(1);  // tiny tensors: a second thread would only be waited for
    for (const Case& test : cases()) {
      CAPTURE(std::string(test.name));
      CHECK(deviation(test, f64) <= 1e-12);
      CHECK(deviation(test, f32) <= 1e-6);
    }
  }

  TEST_CASE("16-bit parameters move as their f32 masters do") {
    const ThreadLimit one(1);  // tiny tensors: a second thread would only be waited for
    for (const Case& test : cases()) {
      CAPTURE(std::string(test.name));
      for (const DType dtype : {bf16, f16}) {
        Parameters narrow = start(dtype), wide = start(dtype);
        for (NamedTensor& entry : wide)
          entry.tensor = to(entry.tensor.detach(), f32).requires_grad_();
        const auto first = test.make(narrow), second = test.make(wide);
        for (int64_t step = 0; step < 30; ++step) {
          set_gradients(narrow, step);
          for (size_t i = 0; i < wide.size(); ++i)  // the same rounded gradients
            wide[i].tensor.set_grad(to(narrow[i].tensor.grad(), f32));
          first->step();
          second->step();
        }
        const StateDict state = first->state_dict();
        for (size_t i = 0; i < wide.size(); ++i) {
          const Tensor master = state.at(wide[i].name + ".master");
          CHECK(master.dtype() == f32);
          CHECK(master.to_vector<float>() == wide[i].tensor.to_vector<float>());
          CHECK(narrow[i].tensor.to_vector<float>() == to(master, dtype).to_vector<float>());
        }
      }
    }
  }

  TEST_CASE("a state that was saved and loaded continues to the bit") {
    const ThreadLimit one(1);  // tiny tensors: a second thread would only be waited for
    for (const Case& test : cases())
      for (const DType dtype : {f32, bf16}) {
        CAPTURE(std::string(test.name));
        Parameters list = start(dtype), other = start(dtype);
        const auto whole = test.make(list), resumed = test.make(other);
        advance(*whole, list, 0, 20);
        advance(*resumed, other, 50, 53);  // a history that must vanish
        resumed->load_state_dict(deep_copy(whole->state_dict()));
        {
          const NoGradGuard no_grad;
          for (size_t i = 0; i < list.size(); ++i) copy_(other[i].tensor, list[i].tensor);
        }
        advance(*whole, list, 20, 40);
        advance(*resumed, other, 20, 40);
        CHECK(values(list) == values(other));
        const StateDict one = whole->state_dict(), two = resumed->state_dict();
        REQUIRE(one.size() == two.size());
        for (const auto& [name, tensor] : one) {
          CAPTURE(name);
          CHECK(two.at(name).to_vector<double>() == tensor.to_vector<double>());
        }
        StateDict broken = deep_copy(one);
        broken.erase("matrix.step");
        CHECK_THROWS_AS(resumed->load_state_dict(broken), Error);
      }
  }

  TEST_CASE("large parameters, strided gradients and several threads change nothing") {
    // 700 x 101: several chunks and a remainder for every vector width.
    const Tensor values = randn({700, 101}, f32, RandomKey{.seed = 1});
    const Tensor gradients[] = {randn({700, 101}, f32, RandomKey{.seed = 2}),
                                randn({700, 101}, f32, RandomKey{.seed = 3})};
    const auto run = [&](const Case& test, int threads, bool strided) {
      const ThreadLimit limit(threads);
      Parameters list = {{"p", clone(values).requires_grad_()}};
      const auto optimizer = test.make(list);
      for (const Tensor& gradient : gradients) {
        list[0].tensor.set_grad(strided ? transpose(contiguous(transpose(gradient))) : gradient);
        optimizer->step();
      }
      return list[0].tensor.to_vector<float>();
    };
    for (const Case& test : cases()) {
      CAPTURE(std::string(test.name));
      const std::vector<float> expected = run(test, 1, false);
      CHECK(run(test, 2, false) == expected);
      CHECK(run(test, 3, true) == expected);
    }
  }
}
