// A gradient that is not finite while the loss is: with nonfinite_policy=skip not a bit of weights
// and optimizer moves, whatever `optim` names.
#include <doctest/doctest.h>

#include <cmath>

#include <tendril/core/creation.h>
#include <tendril/nn/linear.h>
#include <tendril/trainer/optimizer_choice.h>
#include "test_tools.h"
#include "trainer/callback_tools.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// labels = x W^T + b with another term, sqrt(w^2 * good), whose value is 0 and whose gradient NaN
// when `good` is 0: for all parameters or for the last one alone.
struct Poisonable : nn::Module {
  nn::Linear attn{9, 12};
  bool all;
  explicit Poisonable(bool all) : all(all) { add("attn", attn); }
  ModelOutput forward(const Batch& batch) {
    const Tensor y = attn(column(batch, "x"));
    const Tensor good = mean(column(batch, "good"));
    ModelOutput output{mean(square(y - column(batch, "labels"))), {{"logits", y}}};
    output.loss = output.loss + sum(sqrt(square(attn.bias()) * good)) * 1e-3;
    if (all) output.loss = output.loss + sum(sqrt(square(attn.weight()) * good)) * 1e-3;
    return output;
  }
};

// One example per step: `good` is 0 at the second.
std::shared_ptr<const Dataset> second_is_bad() {
  std::vector<Example> examples;
  for (uint64_t i = 0; i < 3; ++i)
    examples.push_back({{"x", randn({9}, f32, RandomKey{.seed = 5, .position = i})},
                        {"labels", randn({12}, f32, RandomKey{.seed = 6, .position = i})},
                        {"good", full({1}, i == 1 ? 0.0 : 1.0)}});
  return std::make_shared<InMemoryDataset>(std::move(examples));
}

// Weights and the optimizer's state, after each step.
struct Snapshots : TrainerCallback {
  const nn::Module* module = nullptr;
  std::vector<std::vector<double>> weights, states;
  void on_step_end(CallbackContext& context) override {
    weights.push_back(all_weights(*module));
    std::vector<double> state;
    for (const auto& [name, tensor] : context.optimizer->state_dict())
      for (const double value : tensor.to_vector<double>()) state.push_back(value);
    states.push_back(state);
  }
};

struct Case {
  std::string optim;
  double max_grad_norm = 0.0;
  std::string more_args = "";
};

TrainingArguments args_of(const Case& c, const TemporaryFolder& folder) {
  TrainingArguments args = quiet_args(folder);
  args.optim = c.optim;
  args.optim_args = c.more_args;
  if (c.optim.find("8bit") != std::string::npos)
    args.optim_args = "min_8bit_size=16" + (c.more_args.empty() ? "" : "," + c.more_args);
  if (c.optim.starts_with("galore") || c.optim.starts_with("apollo")) {
    args.optim_target_modules = {"attn"};
    args.optim_args = "rank=3" + (c.more_args.empty() ? "" : "," + c.more_args);
  }
  if (args.optim_args == "") args.optim_args.reset();
  args.nonfinite_policy = NonfinitePolicy::skip;
  args.max_grad_norm = c.max_grad_norm;
  args.max_steps = 3;
  args.per_device_train_batch_size = 1;
  args.train_sampling_strategy = SamplingStrategy::sequential;
  args.learning_rate = 0.01;
  return args;
}

void check_case(const Case& c) {
  CAPTURE(c.optim);
  CAPTURE(c.max_grad_norm);
  CAPTURE(c.more_args);
  const bool in_backward = c.optim.ends_with("_layerwise") || c.optim.ends_with("lomo");
  const TemporaryFolder folder;
  // In a pass that updates, parameters before the bad one have moved by then, unless a first pass
  // has looked.
  const auto model = std::make_shared<Poisonable>(in_backward && c.more_args.empty());
  Trainer trainer(model, args_of(c, folder), {.train_dataset = second_is_bad()});
  silence(trainer);
  Snapshots& seen = trainer.add_callback<Snapshots>();
  seen.module = model.get();
  const LogCapture log;
  CHECK(trainer.train().global_step == 3);
  REQUIRE(seen.weights.size() == 3);
  CHECK(seen.weights[1] == seen.weights[0]);
  CHECK(seen.states[1] == seen.states[0]);
  CHECK(seen.weights[2] != seen.weights[0]);
  for (const double weight : seen.weights[2]) CHECK(std::isfinite(weight));
  for (const double number : seen.states[2]) CHECK(std::isfinite(number));
}

}  // namespace

TEST_SUITE("trainer_nonfinite_gradients") {
  TEST_CASE("a skipped step changes nothing in any optimizer") {
    const std::vector<std::string> names = optimizer_names();
    REQUIRE(names.size() >= 20);
    for (const std::string& name : names)
      for (const double max_grad_norm : {0.0, 1.0}) check_case({name, max_grad_norm});
  }

  TEST_CASE("nor in one that updates during backward, parameter by parameter") {
    for (const std::string& name : optimizer_names())
      if (!name.ends_with("lomo")) check_case({name + "_layerwise"});
  }

  TEST_CASE("nor when a first pass measures the norm") {
    for (const std::string name :
         {"lomo", "adalomo", "adamw_torch_layerwise", "galore_adamw_layerwise"})
      check_case({name, 1.0, "clip_in_two_passes=true"});
  }
}
