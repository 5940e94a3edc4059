// From the name in TrainingArguments::optim to an optimizer.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <tendril/core/named_tensor.h>
#include <tendril/optim/optimizer.h>
#include <tendril/trainer/training_arguments.h>

namespace tendril {

/// What weight_decay applies to, and what it does not. Both become groups, even when empty.
struct ParameterGroups {
  std::vector<NamedTensor> decayed, kept;
};

/// The optimizer that `args.optim` names, with `args.optim_args`. Error for unknown names (with
/// those there are) and options.
TENDRIL_API std::unique_ptr<optim::Optimizer> make_optimizer(const TrainingArguments& args,
                                                             const ParameterGroups& groups);

}  // namespace tendril
