// From the name in TrainingArguments::optim to an optimizer.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include <tendril/core/named_tensor.h>
#include <tendril/nn/module.h>
#include <tendril/optim/optimizer.h>
#include <tendril/trainer/training_arguments.h>

namespace tendril {

/// What weight_decay applies to, and what it does not. Both become groups, even when empty.
struct ParameterGroups {
  std::vector<NamedTensor> decayed, kept;
  std::set<std::string> embeddings = {};  // those of them that are tables of an nn::Embedding
};

/// The parameters of the model that require grad; `decayed` are those of these names.
TENDRIL_API ParameterGroups parameter_groups(nn::Module& model,
                                             const std::vector<std::string>& decayed);

/// The optimizer that `args.optim` names, with `args.optim_args`. Error for unknown names (with
/// those there are) and options.
TENDRIL_API std::unique_ptr<optim::Optimizer> make_optimizer(const TrainingArguments& args,
                                                             const ParameterGroups& groups);

}  // namespace tendril
