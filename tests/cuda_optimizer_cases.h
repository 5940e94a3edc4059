// Every optimizer of optim/ with options that make it do all it can do, for comparisons of a GPU
// with the CPU.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <tendril/optim/optimizer.h>

namespace tendril::testing {

struct OptimizerCase {
  std::string name;
  std::function<std::unique_ptr<optim::Optimizer>(const std::vector<NamedTensor>&)> make;
  /// How far the GPU may be off after five steps, relative: for f32. 0: not a bit.
  double tolerance = 1e-6;
};

const std::vector<OptimizerCase>& optimizer_cases();

}  // namespace tendril::testing
