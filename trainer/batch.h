// What travels between a dataset, a model and the Trainer: tensors by name.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <tendril/core/tensor.h>

namespace tendril {

/// One example: for a language model {"input_ids": i64 (T)} and perhaps {"labels": i64 (T)}.
using Example = std::map<std::string, Tensor>;
/// Several of them, with a leading axis B: {"input_ids": (B, T), "labels": (B, T)}. Labels of a
/// language model are the tokens themselves, which the model compares with those one step ahead;
/// "shift_labels" are targets that are one step ahead already. -100 is ignored.
using Batch = std::map<std::string, Tensor>;

/// What a model returns. `loss` is undefined when the batch had no labels; the other outputs keep
/// the model's order, the first being the predictions ("logits").
struct ModelOutput {
  Tensor loss;
  std::vector<std::pair<std::string, Tensor>> outputs;
};

}  // namespace tendril
