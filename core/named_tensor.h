// Tensors with names: what modules, optimizers and files exchange.
#pragma once

#include <map>
#include <string>

#include <tendril/core/tensor.h>

namespace tendril {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// State by name, ordered by name; the content of a safetensors file.
using StateDict = std::map<std::string, Tensor>;

}  // namespace tendril
