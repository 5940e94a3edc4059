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
  std::vector<NamedTensor> targets = {};  // those of them that optim_target_modules means
};

/// The parameters of the model that require grad; `decayed` are those of these names.
TENDRIL_API ParameterGroups parameter_groups(nn::Module& model,
                                             const std::vector<std::string>& decayed);
/// The same, with the targets that `args` chooses.
TENDRIL_API ParameterGroups parameter_groups(nn::Module& model,
                                             const std::vector<std::string>& decayed,
                                             const TrainingArguments& args);

/// The optimizer that `args.optim` names, with `args.optim_args`. Every name may end in _layerwise:
/// that optimizer updates during backward (optim/layerwise.h), as lomo and adalomo always do. Error
/// for unknown names (with those there are) and options.
TENDRIL_API std::unique_ptr<optim::Optimizer> make_optimizer(const TrainingArguments& args,
                                                             const ParameterGroups& groups);

/// All names of TrainingArguments::optim, without _layerwise. needs_whole_parameters()
/// (trainer/sharding_plan.h) says of each how sharding must cut parameters.
TENDRIL_API std::vector<std::string> optimizer_names();

/// Error where the arguments ask for what cannot be done with gradients that an update during
/// backward has freed already; a warning where max_grad_norm has no effect.
TENDRIL_API void check_backward_updates(const TrainingArguments& args,
                                        const optim::Optimizer& optimizer);

/// Whether optim_args asks for clip_in_two_passes: each batch runs twice, first for the norm.
TENDRIL_API bool clips_in_two_passes(const TrainingArguments& args);

}  // namespace tendril
