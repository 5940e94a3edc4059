#include <tendril/core/log.h>
#include <tendril/nn/embedding.h>
#include <tendril/optim/adafactor.h>
#include <tendril/optim/adagrad.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/adamw_8bit.h>
#include <tendril/optim/ademamix.h>
#include <tendril/optim/layerwise.h>
#include <tendril/optim/lion.h>
#include <tendril/optim/lion_8bit.h>
#include <tendril/optim/lomo.h>
#include <tendril/optim/muon.h>
#include <tendril/optim/rmsprop.h>
#include <tendril/optim/schedule_free.h>
#include <tendril/optim/sgd.h>
#include <tendril/optim/stable_adamw.h>
#include <tendril/trainer/optimizer_builders.h>
#include <tendril/trainer/sharding_plan.h>
#include <tendril/trainer/target_modules.h>

#include <algorithm>
#include <optional>

namespace tendril {
namespace {

using namespace builders;

// One optimizer with both groups, which differ in weight decay alone.
template <class Optimizer, class Options>
Built with_groups(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given,
                  Options options) {
  given.finish();
  auto optimizer = std::make_unique<Optimizer>();
  options.lr = args.learning_rate;
  options.weight_decay = args.weight_decay;
  optimizer->add_param_group(groups.decayed, options);
  options.weight_decay = 0.0;
  optimizer->add_param_group(groups.kept, options);
  return optimizer;
}

template <class Options>
void take_rounding(const TrainingArguments& args, OptimArgs& given, Options& options) {
  given.take("stochastic_rounding", options.stochastic_rounding);
  options.rounding_seed = static_cast<uint64_t>(args.seed);
}

Built adamw(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  auto options = with_betas<optim::AdamWOptions>(args, given);
  given.take("amsgrad", options.amsgrad);
  take_rounding(args, given, options);
  return with_groups<optim::AdamW>(args, groups, given, options);
}

Built adam(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  auto options = with_betas<optim::AdamOptions>(args, given);
  given.take("amsgrad", options.amsgrad);
  return with_groups<optim::Adam>(args, groups, given, options);
}

Built sgd(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  optim::SgdOptions options;
  given.take("momentum", options.momentum);
  given.take("dampening", options.dampening);
  given.take("nesterov", options.nesterov);
  take_rounding(args, given, options);
  return with_groups<optim::Sgd>(args, groups, given, options);
}

Built adagrad(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  optim::AdagradOptions options;
  given.take("lr_decay", options.lr_decay);
  given.take("initial_accumulator_value", options.initial_accumulator_value);
  given.take("eps", options.eps);
  return with_groups<optim::Adagrad>(args, groups, given, options);
}

Built rmsprop(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  optim::RmsPropOptions options;
  given.take("alpha", options.alpha);
  given.take("eps", options.eps);
  given.take("momentum", options.momentum);
  given.take("centered", options.centered);
  return with_groups<optim::RmsProp>(args, groups, given, options);
}

Built lion(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  return with_groups<optim::Lion>(args, groups, given, with_betas<optim::LionOptions>(args, given));
}

template <class Optimizer, class Options>
Built with_8bit_states(const TrainingArguments& args, const ParameterGroups& groups,
                       OptimArgs& given) {
  auto options = with_betas<Options>(args, given);
  take_rounding(args, given, options);
  take_quantization(groups, given, options);
  return with_groups<Optimizer>(args, groups, given, options);
}

Built adamw_8bit(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  return with_8bit_states<optim::AdamW8bit, optim::AdamW8bitOptions>(args, groups, given);
}

Built lion_8bit(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  return with_8bit_states<optim::Lion8bit, optim::Lion8bitOptions>(args, groups, given);
}

Built ademamix(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  auto options = with_betas<optim::AdEmaMixOptions>(args, given);
  given.take("beta3", options.beta3);
  given.take("alpha", options.alpha);
  return with_groups<optim::AdEmaMix>(args, groups, given, options);
}

// The rate is the schedule's, not the optimizer's own.
Built adafactor(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  optim::AdafactorOptions options;
  options.scale_parameter = options.relative_step = false;
  given.take("scale_parameter", options.scale_parameter);
  given.take("clip_threshold", options.clip_threshold);
  given.take("decay_rate", options.decay_rate);
  given.take("beta1", options.beta1);
  return with_groups<optim::Adafactor>(args, groups, given, options);
}

Built stable_adamw(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  auto options = with_betas<optim::StableAdamWOptions>(args, given);
  given.take("decouple_lr", options.decouple_lr);
  return with_groups<optim::StableAdamW>(args, groups, given, options);
}

Built schedule_free_adamw(const TrainingArguments& args, const ParameterGroups& groups,
                          OptimArgs& given) {
  auto options = with_betas<optim::ScheduleFreeAdamWOptions>(args, given);
  options.warmup_steps = args.get_warmup_steps(std::max<int64_t>(args.max_steps, 0));
  given.take("warmup_steps", options.warmup_steps);
  given.take("weight_lr_power", options.weight_lr_power);
  given.take("r", options.r);
  return with_groups<optim::ScheduleFreeAdamW>(args, groups, given, options);
}

Built schedule_free_sgd(const TrainingArguments& args, const ParameterGroups& groups,
                        OptimArgs& given) {
  optim::ScheduleFreeSgdOptions options;
  options.warmup_steps = args.get_warmup_steps(std::max<int64_t>(args.max_steps, 0));
  given.take("momentum", options.momentum);
  given.take("warmup_steps", options.warmup_steps);
  given.take("weight_lr_power", options.weight_lr_power);
  given.take("r", options.r);
  return with_groups<optim::ScheduleFreeSgd>(args, groups, given, options);
}

// Hidden matrices by Muon, with steps as large as AdamW's so that learning_rate suits both.
Built muon(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  optim::MuonOptions options;
  options.scale = optim::MuonScale::match_rms_adamw;
  options.lr = args.learning_rate;
  options.weight_decay = args.weight_decay;
  given.take("momentum", options.momentum);
  given.take("nesterov", options.nesterov);
  given.take("ns_steps", options.ns_steps);
  auto rest = with_betas<optim::AdamWOptions>(args, given);
  given.finish();
  rest.lr = args.learning_rate;
  rest.weight_decay = args.weight_decay;
  const optim::MuonSplit split = optim::split_for_muon(groups.decayed);
  auto optimizer = std::make_unique<optim::Muon>();
  optimizer->add_param_group(split.matrices, options);
  optimizer->add_adamw_group(split.rest, rest);
  rest.weight_decay = 0.0;
  optimizer->add_adamw_group(groups.kept, rest);
  return optimizer;
}

Built lomo(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  return with_groups<optim::Lomo>(args, groups, given, optim::LomoOptions{});
}

Built adalomo(const TrainingArguments& args, const ParameterGroups& groups, OptimArgs& given) {
  optim::AdaLomoOptions options;
  given.take("clip_threshold", options.clip_threshold);
  given.take("decay_rate", options.decay_rate);
  return with_groups<optim::AdaLomo>(args, groups, given, options);
}

constexpr const char* kLayerwise = "_layerwise";
constexpr const char* kTwoPasses = "clip_in_two_passes";

bool is_layerwise(const std::string& optim) {
  return optim.ends_with(kLayerwise) || optim == "lomo" || optim == "adalomo";
}

optim::BackwardUpdateOptions backward_options(const TrainingArguments& args, OptimArgs& given) {
  optim::BackwardUpdateOptions options;
  double clip_value = 0.0;
  bool two_passes = false;
  given.take("clip_grad_value", clip_value);
  given.take(kTwoPasses, two_passes);  // clips_in_two_passes() reads it
  if (clip_value != 0.0) options.clip_value = clip_value;
  if (args.nonfinite_policy == NonfinitePolicy::skip)
    options.nonfinite = optim::NonfiniteGradient::skip;
  if (args.nonfinite_policy == NonfinitePolicy::continue_)
    options.nonfinite = optim::NonfiniteGradient::use;
  return options;
}

Factories all_factories() {
  Factories all = {{"adamw_torch", Reads::elements, adamw},
                   {"adamw_torch_fused", Reads::elements, adamw},
                   {"adam", Reads::elements, adam},
                   {"sgd", Reads::elements, sgd},
                   {"adagrad", Reads::elements, adagrad},
                   {"rmsprop", Reads::elements, rmsprop},
                   {"adafactor", Reads::parameters, adafactor},
                   {"lion_32bit", Reads::elements, lion},
                   {"adamw_8bit", Reads::parameters, adamw_8bit},
                   {"adamw_bnb_8bit", Reads::parameters, adamw_8bit},
                   {"lion_8bit", Reads::parameters, lion_8bit},
                   {"ademamix", Reads::elements, ademamix},
                   {"stable_adamw", Reads::parameters, stable_adamw},
                   {"schedule_free_adamw", Reads::elements, schedule_free_adamw},
                   {"schedule_free_sgd", Reads::elements, schedule_free_sgd},
                   {"muon", Reads::parameters, muon},
                   {"lomo", Reads::elements, lomo},
                   {"adalomo", Reads::parameters, adalomo}};
  for (auto& entry : low_rank_factories()) all.push_back(std::move(entry));
  return all;
}

const Factories& factories() {
  static const Factories known = all_factories();
  return known;
}

// The suffix of updates during backward does not matter.
const NamedFactory& find_factory(const std::string& optim) {
  std::string wanted = optim;
  if (wanted.ends_with(kLayerwise)) wanted.resize(wanted.size() - std::string(kLayerwise).size());
  std::string names;
  for (const NamedFactory& factory : factories()) {
    if (factory.name == wanted) return factory;
    names += (names.empty() ? "" : ", ") + factory.name;
  }
  fail("[create_optimizer] unknown optim \"", optim, "\"; choose from ", names, ", each also with ",
       kLayerwise, " for updates during backward");
}

}  // namespace

ParameterGroups parameter_groups(nn::Module& model, const std::vector<std::string>& decayed) {
  std::vector<Tensor> tables;
  model.for_each_module([&](const std::string&, nn::Module& module) {
    if (const auto* embedding = dynamic_cast<const nn::Embedding*>(&module))
      tables.push_back(embedding->weight());
  });
  ParameterGroups groups;
  for (const NamedTensor& parameter : model.named_parameters()) {
    if (!parameter.tensor.requires_grad()) continue;
    const bool decays = std::find(decayed.begin(), decayed.end(), parameter.name) != decayed.end();
    (decays ? groups.decayed : groups.kept).push_back(parameter);
    if (std::any_of(tables.begin(), tables.end(),
                    [&](const Tensor& table) { return table.is_same(parameter.tensor); }))
      groups.embeddings.insert(parameter.name);
  }
  return groups;
}

ParameterGroups parameter_groups(nn::Module& model, const std::vector<std::string>& decayed,
                                 const TrainingArguments& args) {
  ParameterGroups groups = parameter_groups(model, decayed);
  // Where nothing trains there is nothing to match; the caller says that better.
  const bool trains = !groups.decayed.empty() || !groups.kept.empty();
  if (trains && !args.optim_target_modules.empty())
    groups.targets = target_weights(model, args.optim_target_modules);
  return groups;
}

std::unique_ptr<optim::Optimizer> make_optimizer(const TrainingArguments& args,
                                                 const ParameterGroups& groups) {
  const NamedFactory& factory = find_factory(args.optim);
  OptimArgs given(args);
  std::optional<optim::BackwardUpdateOptions> in_backward;
  if (is_layerwise(args.optim)) in_backward = backward_options(args, given);
  Built optimizer = factory.build(args, groups, given);
  if (in_backward) optimizer->update_in_backward(*in_backward);
  return optimizer;
}

std::vector<std::string> optimizer_names() {
  std::vector<std::string> names;
  for (const NamedFactory& factory : factories()) names.push_back(factory.name);
  return names;
}

bool needs_whole_parameters(const std::string& optim) {
  return find_factory(optim).reads == Reads::parameters;
}

bool clips_in_two_passes(const TrainingArguments& args) {
  bool two_passes = false;
  OptimArgs(args).take(kTwoPasses, two_passes);
  return two_passes;
}

void check_backward_updates(const TrainingArguments& args, const optim::Optimizer& optimizer) {
  if (!optimizer.updates_in_backward()) return;
  const std::string who = "[train] optim " + args.optim +
                          " updates each parameter during backward and frees its gradient at once";
  TENDRIL_CHECK(
      args.gradient_accumulation_steps == 1, who,
      ", so that the gradients of several batches cannot be summed; got "
      "gradient_accumulation_steps ",
      args.gradient_accumulation_steps,
      "; use 1 with a larger per_device_train_batch_size (gradient_checkpointing makes "
      "room), or an optimizer that updates afterwards, such as galore_adamw or adafactor");
  TENDRIL_CHECK(
      !args.fp16, who,
      ", while fp16 needs a loss scaler, which leaves out a step before it has begun; use "
      "bf16, whose gradients need no scaling");
  if (args.max_grad_norm > 0.0 && !clips_in_two_passes(args))
    log_warning(who, ": max_grad_norm ", args.max_grad_norm,
                " has no effect. To clip by it, set clip_in_two_passes=true in optim_args, which "
                "runs every batch twice; max_grad_norm=0 silences this");
}

}  // namespace tendril
