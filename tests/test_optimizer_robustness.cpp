// Every optimizer and gradients that are zero, lack rank, or are not finite: what can be stepped
// with keeps everything finite, and behind each guard against the rest not a bit moves.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/creation.h>
#include <tendril/core/log.h>
#include <tendril/optim/adafactor.h>
#include <tendril/optim/adagrad.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/adamw_8bit.h>
#include <tendril/optim/ademamix.h>
#include <tendril/optim/apollo.h>
#include <tendril/optim/galore.h>
#include <tendril/optim/galore_adamw_8bit.h>
#include <tendril/optim/grad_scaler.h>
#include <tendril/optim/layerwise.h>
#include <tendril/optim/lion.h>
#include <tendril/optim/lion_8bit.h>
#include <tendril/optim/lomo.h>
#include <tendril/optim/muon.h>
#include <tendril/optim/rmsprop.h>
#include <tendril/optim/schedule_free.h>
#include <tendril/optim/sgd.h>
#include <tendril/optim/stable_adamw.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "file_tools.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

using Parameters = std::vector<NamedTensor>;

struct Row {
  std::string name;  // of the class, and after a space what is special
  std::function<std::unique_ptr<optim::Optimizer>(const Parameters&)> make;
};

template <class Optimizer, class Options>
Row row(const std::string& name, const Options& options) {
  return {name,
          [options](const Parameters& list) { return std::make_unique<Optimizer>(list, options); }};
}

// All of them, with the options that have code of their own.
std::vector<Row> rows() {
  const optim::QuantizationOptions narrow = {.min_size = 0};
  const auto projected = [](optim::ProjectionType type, bool randomized) {
    return optim::ProjectionOptions{
        .rank = 2, .update_proj_gap = 2, .type = type, .randomized = randomized, .oversampling = 2};
  };
  const optim::AdafactorOptions plain_adafactor = {
      .lr = 1e-2, .scale_parameter = false, .relative_step = false};
  using enum optim::ProjectionType;
  return {
      row<optim::AdamW>("AdamW", optim::AdamWOptions{.weight_decay = 0.1}),
      row<optim::AdamW>("AdamW amsgrad", optim::AdamWOptions{.amsgrad = true}),
      row<optim::Adam>("Adam", optim::AdamOptions{}),
      row<optim::Sgd>("Sgd", optim::SgdOptions{.lr = 0.1, .momentum = 0.9}),
      row<optim::Adagrad>("Adagrad", optim::AdagradOptions{}),
      row<optim::RmsProp>("RmsProp", optim::RmsPropOptions{.momentum = 0.9, .centered = true}),
      row<optim::Adafactor>("Adafactor", optim::AdafactorOptions{}),
      row<optim::Adafactor>("Adafactor beta1",
                            [&] {
                              auto options = plain_adafactor;
                              options.beta1 = 0.9;
                              return options;
                            }()),
      row<optim::Lion>("Lion", optim::LionOptions{}),
      row<optim::AdamW8bit>("AdamW8bit", optim::AdamW8bitOptions{.quantization = narrow}),
      row<optim::Lion8bit>("Lion8bit", optim::Lion8bitOptions{.quantization = narrow}),
      row<optim::AdEmaMix>("AdEmaMix", optim::AdEmaMixOptions{}),
      row<optim::StableAdamW>("StableAdamW", optim::StableAdamWOptions{}),
      row<optim::ScheduleFreeAdamW>("ScheduleFreeAdamW", optim::ScheduleFreeAdamWOptions{}),
      row<optim::ScheduleFreeSgd>("ScheduleFreeSgd", optim::ScheduleFreeSgdOptions{.lr = 0.1}),
      row<optim::Muon>("Muon", optim::MuonOptions{}),
      row<optim::Lomo>("Lomo", optim::LomoOptions{}),
      row<optim::AdaLomo>("AdaLomo", optim::AdaLomoOptions{}),
      row<optim::GaloreAdamW>("GaloreAdamW",
                              optim::GaloreAdamWOptions{.projection = projected(standard, false)}),
      row<optim::GaloreAdamW>("GaloreAdamW randomized full",
                              optim::GaloreAdamWOptions{.projection = projected(full, true)}),
      row<optim::GaloreAdafactor>(
          "GaloreAdafactor",
          optim::GaloreAdafactorOptions{plain_adafactor, projected(reverse_standard, false)}),
      row<optim::GaloreAdafactor>(
          "GaloreAdafactor randomized",
          optim::GaloreAdafactorOptions{plain_adafactor, projected(standard, true)}),
      row<optim::GaloreAdamW8bit>(
          "GaloreAdamW8bit",
          optim::GaloreAdamW8bitOptions{.quantization = narrow,
                                        .projection = projected(standard, false)}),
      row<optim::ApolloAdamW>(
          "ApolloAdamW",
          optim::ApolloAdamWOptions{.projection = optim::ApolloProjection{.rank = 2}}),
      row<optim::ApolloAdamW>(
          "ApolloAdamW tensor",
          optim::ApolloAdamWOptions{
              .projection =
                  optim::ApolloProjection{.rank = 1, .scaling = optim::ApolloScaling::tensor}}),
  };
}

const Shape kShape = {12, 9};

Tensor noise(uint64_t position, const Shape& shape = kShape) {
  return randn(shape, f32, RandomKey{.seed = 9, .position = position});
}

// Gradients that are unpleasant but finite.
std::map<std::string, Tensor> finite_gradients() {
  Tensor one_entry = zeros(kShape);
  one_entry.data<float>()[40] = 3.0f;
  return {{"zero", zeros(kShape)},
          {"one entry", one_entry},
          {"rank 1", matmul(noise(1, {12, 1}), noise(2, {1, 9}))},
          {"equal entries", ones(kShape)},
          {"tiny", noise(3) * 1e-30},
          {"subnormal", full(kShape, 1e-41)}};
}

std::map<std::string, Tensor> bad_gradients() {
  const auto poisoned = [](float value) {
    const Tensor gradient = noise(4);
    gradient.data<float>()[50] = value;
    return gradient;
  };
  const float inf = std::numeric_limits<float>::infinity();
  return {{"one NaN", poisoned(std::numeric_limits<float>::quiet_NaN())},
          {"one infinity", poisoned(inf)},
          {"one negative infinity", poisoned(-inf)},
          {"all NaN", full(kShape, std::numeric_limits<double>::quiet_NaN())}};
}

// The parameter and everything that the optimizer keeps.
StateDict all_of(const optim::Optimizer& optimizer, const Tensor& parameter) {
  StateDict all;
  for (const auto& [name, tensor] : optimizer.state_dict()) all[name] = clone(tensor);
  all["the parameter"] = clone(parameter.detach());
  return all;
}

bool all_finite(const StateDict& all) {
  for (const auto& [name, tensor] : all) {
    CAPTURE(name);
    for (const double value : tensor.to_vector<double>())
      if (!std::isfinite(value)) return false;
  }
  return true;
}

bool same_bits(const StateDict& a, const StateDict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a)
    if (!b.contains(name) || numbers(tensor) != numbers(b.at(name))) return false;
  return true;
}

void step_with(optim::Optimizer& optimizer, Tensor& parameter, const Tensor& gradient) {
  parameter.set_grad(clone(gradient));
  optimizer.step();
  parameter.set_grad({});
}

// An optimizer that has stepped, so that there is state to lose.
struct Trained {
  Tensor parameter = noise(5).requires_grad_();
  std::unique_ptr<optim::Optimizer> optimizer;
  explicit Trained(const Row& row) : optimizer(row.make({{"w", parameter}})) {
    step_with(*optimizer, parameter, noise(6));
  }
  StateDict all() const { return all_of(*optimizer, parameter); }
};

}  // namespace

TEST_SUITE("optimizer_robustness") {
  TEST_CASE("the list has every optimizer") {
    std::set<std::string> listed, found;
    for (const Row& row : rows()) listed.insert(row.name.substr(0, row.name.find(' ')));
    // Bases have template parameters or are none of their own.
    const std::set<std::string> bases = {"AdamFamily", "Galore",          "Grouped",
                                         "Projected",  "QuantizedStates", "ScheduleFree"};
    const std::regex declaration(
        "class TENDRIL_API (\\w+) : public (Optimizer|Galore|Projected|\\w+<\\w+>) \\{");
    for (const auto& entry :
         std::filesystem::directory_iterator(std::string(TENDRIL_SOURCE_DIR) + "/optim")) {
      if (entry.path().extension() != ".h") continue;
      const std::string text = read_bytes(entry.path().string());
      for (std::sregex_iterator at(text.begin(), text.end(), declaration), end; at != end; ++at)
        if (!bases.contains((*at)[1])) found.insert((*at)[1]);
    }
    CHECK(found == listed);
  }

  TEST_CASE("finite gradients keep everything finite, as first ones and later") {
    for (const Row& row : rows())
      for (const auto& [kind, gradient] : finite_gradients()) {
        CAPTURE(row.name);
        CAPTURE(kind);
        Tensor parameter = noise(5).requires_grad_();
        const auto optimizer = row.make({{"w", parameter}});
        for (int step = 0; step < 3; ++step) step_with(*optimizer, parameter, gradient);
        CHECK(all_finite(all_of(*optimizer, parameter)));
        step_with(*optimizer, parameter, noise(7));
        step_with(*optimizer, parameter, gradient);
        CHECK(all_finite(all_of(*optimizer, parameter)));
      }
  }

  TEST_CASE("GradScaler::step() leaves everything as it is when a gradient is not finite") {
    for (const Row& row : rows())
      for (const auto& [kind, gradient] : bad_gradients()) {
        CAPTURE(row.name);
        CAPTURE(kind);
        Trained trained(row);
        const StateDict before = trained.all();
        optim::GradScaler scaler;
        trained.parameter.set_grad(clone(gradient));
        CHECK_FALSE(scaler.step(*trained.optimizer));
        scaler.update();
        CHECK(same_bits(trained.all(), before));
        trained.parameter.set_grad(noise(8));  // and the next step is one
        CHECK(scaler.step(*trained.optimizer));
        CHECK_FALSE(same_bits(trained.all(), before));
        CHECK(all_finite(trained.all()));
      }
  }

  TEST_CASE("updates during backward throw or skip when a gradient is not finite") {
    set_log_sink([](LogLevel, const std::string&) {});
    for (const Row& row : rows())
      for (const auto& [kind, gradient] : bad_gradients())
        for (const bool skip : {false, true}) {
          CAPTURE(row.name);
          CAPTURE(kind);
          CAPTURE(skip);
          Trained trained(row);
          const StateDict before = trained.all();
          trained.optimizer->update_in_backward(
              {.nonfinite =
                   skip ? optim::NonfiniteGradient::skip : optim::NonfiniteGradient::error});
          // d/dw sum(w * c) = c
          const auto backward = [&](const Tensor& c) {
            return message_of([&] { sum(trained.parameter * c).backward(); });
          };
          CHECK(contains(backward(gradient), "\"w\" is not finite") == !skip);
          CHECK(trained.optimizer->backward_updates().skipped() == (skip ? 1 : 0));
          CHECK(same_bits(trained.all(), before));
          trained.parameter.set_grad({});
          CHECK(backward(noise(8)) == "");
          CHECK_FALSE(same_bits(trained.all(), before));
          CHECK(all_finite(trained.all()));
        }
    set_log_sink({});
  }
}
