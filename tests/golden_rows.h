// Which operation belongs to each case of tests/golden/*.safetensors; test_golden_ops.cpp runs
// them.
#pragma once

#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <tendril/autograd/functions.h>

namespace tendril::testing {

using Tensors = std::vector<Tensor>;

inline Tensors as_list(const Tensor& x) { return {x}; }
inline Tensors as_list(const SortResult& x) { return {x.values, x.indices}; }
inline Tensors as_list(const Tensors& x) { return x; }

struct GoldenRow {
  /// `operation` takes the inputs and returns a Tensor, a SortResult or several tensors.
  template <class Operation>
  GoldenRow(std::string name, Operation operation)
      : name(std::move(name)),
        run([operation](const Tensors& x) { return as_list(operation(x)); }) {}

  std::string name;
  std::function<Tensors(const Tensors& inputs)> run;
};

std::vector<GoldenRow> golden_pointwise();
std::vector<GoldenRow> golden_reduce();
std::vector<GoldenRow> golden_layout();
std::vector<GoldenRow> golden_algebra();
std::vector<GoldenRow> golden_layers();
std::vector<GoldenRow> golden_attention();
std::vector<GoldenRow> golden_losses();

}  // namespace tendril::testing
