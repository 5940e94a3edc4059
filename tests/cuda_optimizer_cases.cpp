#include "cuda_optimizer_cases.h"

#include <tendril/optim/adafactor.h>
#include <tendril/optim/adagrad.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/adamw_8bit.h>
#include <tendril/optim/ademamix.h>
#include <tendril/optim/apollo.h>
#include <tendril/optim/galore.h>
#include <tendril/optim/galore_adamw_8bit.h>
#include <tendril/optim/lion.h>
#include <tendril/optim/lion_8bit.h>
#include <tendril/optim/lomo.h>
#include <tendril/optim/muon.h>
#include <tendril/optim/rmsprop.h>
#include <tendril/optim/schedule_free.h>
#include <tendril/optim/sgd.h>
#include <tendril/optim/stable_adamw.h>

namespace tendril::testing {
namespace {

using Parameters = std::vector<NamedTensor>;

template <class Optimizer, class Options>
OptimizerCase plain(const char* name, const Options& options, double tolerance = 1e-6) {
  const auto make = [options](const Parameters& list) -> std::unique_ptr<optim::Optimizer> {
    return std::make_unique<Optimizer>(list, options);
  };
  return {name, make, tolerance};
}

// Matrices in one group, with the projection, and the rest in another.
template <class Optimizer, class Options>
OptimizerCase projected(const char* name, Options options, double tolerance) {
  const auto make = [options](const Parameters& list) -> std::unique_ptr<optim::Optimizer> {
    Parameters matrices, rest;
    for (const NamedTensor& entry : list)
      (entry.tensor.rank() == 2 ? matrices : rest).push_back(entry);
    auto optimizer = std::make_unique<Optimizer>(matrices, options);
    Options unprojected = options;
    unprojected.projection.reset();
    optimizer->add_param_group(rest, unprojected);
    return optimizer;
  };
  return {name, make, tolerance};
}

OptimizerCase muon() {
  const auto make = [](const Parameters& list) -> std::unique_ptr<optim::Optimizer> {
    const optim::MuonSplit split = optim::split_for_muon(list);
    auto optimizer = std::make_unique<optim::Muon>(
        split.matrices, optim::MuonOptions{.lr = 0.01, .weight_decay = 0.1});
    optimizer->add_adamw_group(split.rest, {.lr = 0.01});
    return optimizer;
  };
  return {"muon", make, 1e-6};
}

const optim::ProjectionOptions kLowRank = {.rank = 4, .update_proj_gap = 3};
const optim::ProjectionOptions kRangeFinder = {
    .rank = 4, .update_proj_gap = 3, .randomized = true, .oversampling = 4};
const optim::QuantizationOptions kAllQuantized = {.min_size = 0};

std::vector<OptimizerCase> elementwise_cases() {
  using namespace optim;
  return {
      plain<Sgd>("sgd", SgdOptions{.lr = 0.05, .weight_decay = 0.1}),
      plain<Sgd>("sgd with momentum", SgdOptions{.lr = 0.05, .momentum = 0.9, .nesterov = true}),
      plain<AdamW>("adamw", AdamWOptions{.lr = 0.02, .weight_decay = 0.1}),
      plain<AdamW>("adamw with amsgrad",
                   AdamWOptions{.lr = 0.02, .amsgrad = true, .maximize = true}),
      plain<Adam>("adam", AdamOptions{.lr = 0.02, .weight_decay = 0.1}),
      plain<Adagrad>(
          "adagrad",
          AdagradOptions{
              .lr = 0.05, .lr_decay = 0.1, .weight_decay = 0.05, .initial_accumulator_value = 0.2}),
      plain<RmsProp>("rmsprop", RmsPropOptions{.lr = 0.01, .weight_decay = 0.1}),
      plain<RmsProp>("rmsprop with momentum", RmsPropOptions{.lr = 0.01, .momentum = 0.5}),
      // A centred variance is a difference of nearly equal numbers, at first of equal ones.
      plain<RmsProp>("centered rmsprop", RmsPropOptions{.lr = 0.01, .eps = 0.1, .centered = true}),
      plain<RmsProp>("centered rmsprop with momentum",
                     RmsPropOptions{.lr = 0.01, .eps = 0.1, .momentum = 0.5, .centered = true}),
      plain<Lion>("lion", LionOptions{.lr = 0.01, .weight_decay = 0.1}),
      plain<AdEmaMix>("ademamix", AdEmaMixOptions{.lr = 0.01, .t_alpha = 4, .t_beta3 = 4}),
      plain<StableAdamW>("stable_adamw", StableAdamWOptions{.lr = 0.01, .weight_decay = 0.1}),
      plain<ScheduleFreeAdamW>("schedule_free_adamw",
                               ScheduleFreeAdamWOptions{.lr = 0.01, .warmup_steps = 3}),
      plain<ScheduleFreeSgd>("schedule_free_sgd",
                             ScheduleFreeSgdOptions{.lr = 0.05, .weight_decay = 0.1}),
      plain<AdamW8bit>("adamw_8bit", AdamW8bitOptions{.lr = 0.02, .quantization = kAllQuantized},
                       0.0),
      plain<Lion8bit>(
          "lion_8bit",
          Lion8bitOptions{.lr = 0.01, .weight_decay = 0.1, .quantization = kAllQuantized}, 0.0)};
}

// Their norms and products are summed in another order on a GPU.
std::vector<OptimizerCase> structured_cases() {
  using namespace optim;
  ApolloProjection apollo = {.rank = 4, .update_proj_gap = 3};
  ApolloProjection mini = {
      .rank = 1, .update_proj_gap = 3, .scale = 16.0, .scaling = ApolloScaling::tensor};
  ApolloProjection svd = {.rank = 4, .update_proj_gap = 3, .basis = ApolloBasis::svd};
  ProjectionOptions both = kLowRank;
  both.type = ProjectionType::full;
  return {
      muon(), plain<Adafactor>("adafactor", AdafactorOptions{.beta1 = 0.9, .weight_decay = 0.1}),
      plain<Lomo>("lomo", LomoOptions{.lr = 0.05, .weight_decay = 0.1}),
      plain<AdaLomo>("adalomo", AdaLomoOptions{.lr = 0.05, .weight_decay = 0.1}),
      projected<GaloreAdamW>(
          "galore_adamw",
          GaloreAdamWOptions{.lr = 0.02, .weight_decay = 0.1, .projection = kLowRank}, 1e-6),
      // The small numbers of two products in a row carry the rounding of the large ones, and AdamW
      // divides by their size: on the CPU, too, f32 is 3e-5 from f64 here.
      projected<GaloreAdamW>("galore_adamw on both sides",
                             GaloreAdamWOptions{.lr = 0.02, .projection = both}, 1e-4),
      projected<GaloreAdamW>("galore_adamw by the range finder",
                             GaloreAdamWOptions{.lr = 0.02, .projection = kRangeFinder}, 1e-5),
      projected<GaloreAdafactor>(
          "galore_adafactor",
          GaloreAdafactorOptions{.adafactor = {.lr = 0.02, .relative_step = false},
                                 .projection = kLowRank},
          1e-6),
      // A number near the border of two codes may get the other one: half a decade's step of it.
      projected<GaloreAdamW8bit>("galore_adamw_8bit",
                                 GaloreAdamW8bitOptions{.lr = 0.01,
                                                        .weight_decay = 0.1,
                                                        .quantization = kAllQuantized,
                                                        .projection = kLowRank},
                                 1e-3),
      projected<ApolloAdamW>(
          "apollo_adamw", ApolloAdamWOptions{.lr = 0.02, .weight_decay = 0.1, .projection = apollo},
          1e-6),
      projected<ApolloAdamW>("apollo_adamw, mini",
                             ApolloAdamWOptions{.lr = 0.02, .projection = mini}, 1e-6),
      projected<ApolloAdamW>("apollo_adamw with kept directions",
                             ApolloAdamWOptions{.lr = 0.02, .projection = svd}, 1e-6)};
}

}  // namespace

const std::vector<OptimizerCase>& optimizer_cases() {
  static const std::vector<OptimizerCase> cases = [] {
    std::vector<OptimizerCase> all = elementwise_cases();
    for (OptimizerCase& one : structured_cases()) all.push_back(std::move(one));
    return all;
  }();
  return cases;
}

}  // namespace tendril::testing
