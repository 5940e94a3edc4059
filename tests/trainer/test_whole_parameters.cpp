// Which optimizers may be given a part of a parameter: those, and only those, that update two
// halves as they update the whole.
#include <doctest/doctest.h>

#include <tendril/autograd/functions.h>
#include <tendril/core/creation.h>
#include <tendril/core/random.h>
#include <tendril/trainer/optimizer_choice.h>
#include <tendril/trainer/sharding_plan.h>

#include "file_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

constexpr int64_t kRows = 8, kColumns = 300;

std::vector<float> numbers(int64_t begin, int64_t end, uint64_t seed) {
  Generator generator(seed);
  const GeneratorGuard guard(generator);
  std::vector<float> all = randn({kRows, kColumns}).to_vector<float>();
  all[7] *= 50.0f;  // in the first half: the halves' norms and scales differ
  return {all.begin() + begin * kColumns, all.begin() + end * kColumns};
}

// Rows begin to end after some updates: a sign that a quantised moment turns takes a few.
std::vector<float> updated(const std::string& optim, int64_t begin, int64_t end) {
  TrainingArguments args;
  args.optim = optim;
  args.learning_rate = 1e-2;
  args.weight_decay = 0.1;
  args.adam_beta2 = 0.9;  // moments as large as gradients: what becomes of them matters soon
  args.max_grad_norm = 0.0;
  if (optim.find("8bit") != std::string::npos) args.optim_args = "min_8bit_size=1";
  const bool projects = optim.starts_with("galore") || optim.starts_with("apollo");
  if (projects) args.optim_args = args.optim_args ? "rank=2, min_8bit_size=1" : "rank=2";
  const Shape shape{end - begin, kColumns};
  Tensor weight = Tensor::from(numbers(begin, end, 1), shape);
  weight.requires_grad_(true);
  ParameterGroups groups{.decayed = {{"h.0.mlp.weight", weight}}, .kept = {}};
  if (projects) groups.targets = groups.decayed;
  const auto optimizer = make_optimizer(args, groups);
  for (uint64_t step = 2; step < 60; ++step) {
    sum(weight * Tensor::from(numbers(begin, end, step), shape)).backward();
    optimizer->step();
    optimizer->zero_grad();
  }
  return weight.to_vector<float>();
}

}  // namespace

TEST_SUITE("whole_parameters") {
  TEST_CASE("the table says what two halves show, for every optimizer there is") {
    const std::vector<std::string> names = optimizer_names();
    CHECK(names.size() >= 22);
    for (const std::string& optim : names) {
      CAPTURE(optim);
      const std::vector<float> whole = updated(optim, 0, kRows);
      std::vector<float> halves = updated(optim, 0, kRows / 2);
      const std::vector<float> rest = updated(optim, kRows / 2, kRows);
      halves.insert(halves.end(), rest.begin(), rest.end());
      CHECK(whole != numbers(0, kRows, 1));  // it moved
      CHECK(needs_whole_parameters(optim) == (whole != halves));
      CHECK(needs_whole_parameters(optim + "_layerwise") == needs_whole_parameters(optim));
    }
  }

  TEST_CASE("an unknown name is an error") {
    CHECK(contains_text(error_of([] { needs_whole_parameters("adamx"); }),
                        "unknown optim \"adamx\"; choose from adamw_torch, "));
  }
}
