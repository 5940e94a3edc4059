// Private to the trainer: what optimizers are built with, out of names and arguments.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <tendril/trainer/optim_args.h>
#include <tendril/trainer/optimizer_choice.h>

namespace tendril::builders {

using Built = std::unique_ptr<optim::Optimizer>;
using Factory = std::function<Built(const TrainingArguments&, const ParameterGroups&, OptimArgs&)>;

/// What a rule reads besides the element that it updates; sharding cuts parameters accordingly.
enum class Reads {
  elements,    // nothing: any part of a parameter can be updated on its own
  parameters,  // the rest of the parameter: norms, rows and columns, projections, quantised blocks
};

struct NamedFactory {
  std::string name;
  Reads reads;
  Factory build;
};
using Factories = std::vector<NamedFactory>;

/// Those that need optim_target_modules.
Factories low_rank_factories();

/// Options with Adam's two decay rates, which arguments of their own describe.
template <class Options>
Options with_betas(const TrainingArguments& args, OptimArgs& given) {
  Options options;
  options.beta1 = args.adam_beta1;
  options.beta2 = args.adam_beta2;
  if constexpr (requires { options.eps; }) options.eps = args.adam_epsilon;
  given.take("beta1", options.beta1);
  given.take("beta2", options.beta2);
  if constexpr (requires { options.eps; }) given.take("eps", options.eps);
  return options;
}

/// Embeddings keep f32 states, as bitsandbytes has it under the Hugging Face Trainer.
template <class Options>
void take_quantization(const ParameterGroups& groups, OptimArgs& given, Options& options) {
  given.take("min_8bit_size", options.quantization.min_size);
  options.quantization.keep_32bit = [embeddings = groups.embeddings](const std::string& name) {
    return embeddings.contains(name);
  };
}

}  // namespace tendril::builders
