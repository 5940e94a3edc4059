// GaLore and APOLLO out of arguments.
#include <tendril/optim/apollo.h>
#include <tendril/optim/galore.h>
#include <tendril/optim/galore_adamw_8bit.h>
#include <tendril/trainer/optimizer_builders.h>

#include <algorithm>
#include <limits>
#include <optional>

namespace tendril::builders {
namespace {

optim::ProjectionOptions projection(const TrainingArguments& args, OptimArgs& given) {
  optim::ProjectionOptions options;
  options.seed = static_cast<uint64_t>(args.seed);
  std::string type = "std";
  given.take("rank", options.rank);
  given.take("update_proj_gap", options.update_proj_gap);
  given.take("scale", options.scale);
  given.take("proj_type", type);
  given.take("randomized", options.randomized);
  given.take("oversampling", options.oversampling);
  given.take("power_iterations", options.power_iterations);
  given.take("staggered", options.staggered);
  options.type = optim::projection_type_from(type);
  return options;
}

// Under the names that Hugging Face has for them.
optim::ApolloProjection apollo_projection(const TrainingArguments& args, OptimArgs& given) {
  optim::ApolloProjection options;
  options.seed = static_cast<uint64_t>(args.seed);
  std::string type = "std", basis = "random", scaling = "channel";
  bool unlimited = false;
  given.take("rank", options.rank);
  given.take("update_proj_gap", options.update_proj_gap);
  given.take("scale", options.scale);
  given.take("proj_type", type);
  given.take("proj", basis);
  given.take("scale_type", scaling);
  given.take("scale_front", options.scale_front);
  given.take("disable_nl", unlimited);
  given.take("randomized", options.randomized);
  options.type = optim::projection_type_from(type);
  options.basis = optim::apollo_basis_from(basis);
  options.scaling = optim::apollo_scaling_from(scaling);
  if (unlimited) options.max_growth = std::numeric_limits<double>::infinity();
  return options;
}

// Four groups: decayed and not, first those that are not projected. add(parameters, weight_decay,
// projected) adds one.
template <class Add>
void add_groups(const TrainingArguments& args, const ParameterGroups& groups, const Add& add) {
  TENDRIL_CHECK(!groups.targets.empty(), "[create_optimizer] optim ", args.optim,
                " needs optim_target_modules, which says what it projects; for example attn, mlp");
  const auto part = [&](const std::vector<NamedTensor>& list, bool targets) {
    std::vector<NamedTensor> chosen;
    for (const NamedTensor& entry : list) {
      const bool is_target = std::any_of(
          groups.targets.begin(), groups.targets.end(),
          [&](const NamedTensor& target) { return target.tensor.is_same(entry.tensor); });
      if (is_target == targets) chosen.push_back(entry);
    }
    return chosen;
  };
  for (const bool targets : {false, true}) {
    add(part(groups.decayed, targets), args.weight_decay, targets);
    add(part(groups.kept, targets), 0.0, targets);
  }
}

// An optimizer whose options have lr, weight_decay and projection, the last one for targets alone.
template <class Optimizer, class Options, class Projection>
Built with_targets(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given,
                   Options options, const Projection& projection) {
  given.finish();
  options.lr = args.learning_rate;
  auto optimizer = std::make_unique<Optimizer>();
  add_groups(args, groups, [&](const auto& parameters, double decay, bool projected) {
    options.weight_decay = decay;
    options.projection = projected ? std::optional(projection) : std::nullopt;
    optimizer->add_param_group(parameters, options);
  });
  return optimizer;
}

// eps is GaLore's own unless optim_args sets it: it stands elsewhere than adam_epsilon does.
Built galore_adamw(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  optim::GaloreAdamWOptions options;
  options.beta1 = args.adam_beta1;
  options.beta2 = args.adam_beta2;
  given.take("beta1", options.beta1);
  given.take("beta2", options.beta2);
  given.take("eps", options.eps);
  return with_targets<optim::GaloreAdamW>(args, groups, given, options, projection(args, given));
}

Built galore_adamw_8bit(const TrainingArguments& args, const ParameterGroups& groups,
                        OptimArgs& given) {
  auto options = with_betas<optim::GaloreAdamW8bitOptions>(args, given);
  take_quantization(groups, given, options);
  return with_targets<optim::GaloreAdamW8bit>(args, groups, given, options,
                                              projection(args, given));
}

Built galore_adafactor(const TrainingArguments& args, const ParameterGroups& groups,
                       OptimArgs& given) {
  optim::GaloreAdafactorOptions options;
  optim::AdafactorOptions& inner = options.adafactor;
  inner.lr = args.learning_rate;
  inner.scale_parameter = inner.relative_step = false;
  given.take("scale_parameter", inner.scale_parameter);
  given.take("clip_threshold", inner.clip_threshold);
  given.take("decay_rate", inner.decay_rate);
  given.take("beta1", inner.beta1);
  const optim::ProjectionOptions projected = projection(args, given);
  given.finish();
  auto optimizer = std::make_unique<optim::GaloreAdafactor>();
  add_groups(args, groups, [&](const auto& parameters, double decay, bool is_projected) {
    inner.weight_decay = decay;
    options.projection = is_projected ? std::optional(projected) : std::nullopt;
    optimizer->add_param_group(parameters, options);
  });
  return optimizer;
}

// eps is adam_epsilon, as Hugging Face passes it.
Built apollo_adamw(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  const auto options = with_betas<optim::ApolloAdamWOptions>(args, given);
  return with_targets<optim::ApolloAdamW>(args, groups, given, options,
                                          apollo_projection(args, given));
}

}  // namespace

Factories low_rank_factories() {
  return {{"galore_adamw", Reads::parameters, galore_adamw},
          {"galore_adamw_8bit", Reads::parameters, galore_adamw_8bit},
          {"galore_adafactor", Reads::parameters, galore_adafactor},
          {"apollo_adamw", Reads::parameters, apollo_adamw}};
}

}  // namespace tendril::builders
