#include <tendril/trainer/sharding/fsdp.h>

#include <algorithm>

#include <tendril/core/log.h>
#include <tendril/trainer/sharding/block_classes.h>
#include <tendril/trainer/sharding/config_section.h>

namespace tendril::sharding {
namespace {

using dist::ShardingStrategy;

constexpr ShardingStrategy kByNumber[] = {
    ShardingStrategy::full_shard, ShardingStrategy::shard_grad_op, ShardingStrategy::no_shard,
    ShardingStrategy::hybrid_shard, ShardingStrategy::hybrid_shard_zero2};

// Keys without the fsdp_ that the launcher's configuration has before them.
Json without_prefix(const Json& config, Problems& problems) {
  if (!config.is_object()) return config;
  constexpr std::string_view kPrefix = "fsdp_";
  Json result = Json::object();
  for (const auto& [name, value] : config.members()) {
    const std::string plain = name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : name;
    if (result.find(plain)) problems.add(plain, " is set twice, with and without fsdp_");
    result.set(plain, value);
  }
  return result;
}

// Reads the keys group by group into a plan.
class FsdpReader {
 public:
  FsdpReader(const FsdpRequest& request, const TrainingArguments& args, nn::Module& model)
      : request_(request),
        args_(args),
        model_(model),
        problems_("[fsdp] " + request.origin),
        keys_(without_prefix(request.config, problems_), "", problems_) {}

  ShardingPlan read() {
    version_ = static_cast<int>(keys_.integer("version", 1).value_or(1));
    if (version_ > 2) problems_.add("version must be 1 or 2; got ", version_);
    read_strategy();
    read_mesh();
    read_wrapping();
    read_prefetching();
    read_loading();
    read_checkpoints();
    read_activations();
    read_inapplicable();
    keys_.finish();
    problems_.finish();
    plan_.sharded = true;
    plan_.reduces_every_batch = plan_.options.strategy != ShardingStrategy::no_shard;
    set_precision(plan_.options, args_);
    return plan_;
  }

 private:
  // An obsolete key, or one of the other version.
  void ignored(const std::string& name, const std::string& why) {
    log_warning(problems_.where(), ": ", name, " has no effect: ", why);
  }

  void read_strategy();
  void read_mesh();
  void read_wrapping();
  void wrap_blocks();
  void read_prefetching();
  void read_loading();
  void read_checkpoints();
  void read_activations();
  void read_inapplicable();

  const FsdpRequest& request_;
  const TrainingArguments& args_;
  nn::Module& model_;
  Problems problems_;
  ConfigSection keys_;
  int version_ = 1;
  ShardingPlan plan_;
};

// In version 2 reshard_after_forward says what the strategy says in version 1. There full_shard is
// often no more than the word that turns sharding on, so that the two may differ.
void FsdpReader::read_strategy() {
  std::optional<ShardingStrategy> strategy = request_.words.strategy;
  const auto index = keys_.choice("sharding_strategy", {"FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD",
                                                        "HYBRID_SHARD", "HYBRID_SHARD_ZERO2"});
  if (index && strategy && *strategy != kByNumber[*index])
    problems_.add("sharding_strategy is ", name(kByNumber[*index]), ", but fsdp says ",
                  name(*strategy));
  if (index) strategy = kByNumber[*index];
  ShardingStrategy& result = plan_.options.strategy;
  result = strategy.value_or(ShardingStrategy::full_shard);

  const std::optional<bool> reshard = keys_.flag("reshard_after_forward");
  if (reshard && version_ == 1)
    ignored("reshard_after_forward", "it belongs to version 2; the strategy decides");
  if (!reshard || version_ == 1) return;
  const bool releases =
      result == ShardingStrategy::full_shard || result == ShardingStrategy::hybrid_shard;
  if (releases && !*reshard)
    result =
        plan_.is_hybrid() ? ShardingStrategy::hybrid_shard_zero2 : ShardingStrategy::shard_grad_op;
  else if (!releases && *reshard)
    problems_.add("reshard_after_forward is true, which contradicts ", name(result));
}

// Copies of the model times ranks that share one: version 2's way to say hybrid.
void FsdpReader::read_mesh() {
  const std::optional<int64_t> replicas = keys_.integer("dp_replicate_size", 1);
  const std::optional<int64_t> shards = keys_.integer("dp_shard_size", 1);
  if (!replicas && !shards) return;
  const int64_t world = request_.world_size;
  const int64_t copies = replicas.value_or(shards ? std::max<int64_t>(world / *shards, 1) : 1);
  const int64_t sharers = shards.value_or(std::max<int64_t>(world / copies, 1));
  if (copies > world || sharers > world || copies * sharers != world) {
    problems_.add("dp_replicate_size ", copies, " times dp_shard_size ", sharers, " is not the ",
                  world, " processes there are");
    return;
  }
  ShardingStrategy& strategy = plan_.options.strategy;
  if (copies == 1 || strategy == ShardingStrategy::no_shard) return;
  plan_.shard_group_size = static_cast<int>(sharers);
  if (sharers == 1)
    strategy = ShardingStrategy::no_shard;
  else if (strategy == ShardingStrategy::full_shard)
    strategy = ShardingStrategy::hybrid_shard;
  else if (strategy == ShardingStrategy::shard_grad_op)
    strategy = ShardingStrategy::hybrid_shard_zero2;
}

void FsdpReader::wrap_blocks() {
  const std::vector<std::string> classes = block_classes(model_);
  if (classes.empty())
    ignored("auto_wrap",
            "no class repeats in a ModuleList of this model; name some with "
            "transformer_layer_cls_to_wrap. The whole model is one unit");
  else
    plan_.options.wrap = dist::wrap_class(classes);
}

// Classes or a size say how, even without auto_wrap; auto_wrap_policy alone decides where it is
// set, since a launcher passes its defaults for both.
void FsdpReader::read_wrapping() {
  const std::vector<std::string> classes = keys_.words("transformer_layer_cls_to_wrap");
  const int64_t size = keys_.integer("min_num_params", 0).value_or(0);
  const auto policy =
      keys_.choice("auto_wrap_policy", {"TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP", "NO_WRAP"});
  if (!policy && !classes.empty() && size > 0) {
    problems_.add(
        "min_num_params and transformer_layer_cls_to_wrap are two ways to wrap; choose "
        "one");
    return;
  }
  const bool by_size = policy ? *policy == 1 : size > 0;
  const bool by_class = policy ? *policy == 0 : !by_size;
  if (by_size && size == 0)
    problems_.add("SIZE_BASED_WRAP needs min_num_params above 0");
  else if (by_size)
    plan_.options.wrap = dist::wrap_size(size);
  else if (by_class && !classes.empty())
    plan_.options.wrap = dist::wrap_class(classes);
  else if (by_class && (policy || request_.words.auto_wrap))
    wrap_blocks();
}

// Where nothing is said, gathers run ahead in both directions.
void FsdpReader::read_prefetching() {
  dist::FullyShardedOptions& options = plan_.options;
  const std::vector<std::string> policies = {"BACKWARD_PRE", "BACKWARD_POST", "NO_PREFETCH"};
  auto backward = keys_.choice("backward_prefetch", policies);
  if (const auto old = keys_.choice("backward_prefetch_policy", policies)) {
    log_warning(problems_.where(),
                ": backward_prefetch_policy is an old name of "
                "backward_prefetch");
    if (!backward) backward = old;
  }
  const std::optional<bool> forward = keys_.flag("forward_prefetch");
  options.limit_all_gathers = keys_.flag("limit_all_gathers").value_or(true);
  if (version_ == 2) {
    if (backward) ignored("backward_prefetch", "version 2 decides itself");
    if (forward.value_or(false)) problems_.add("forward_prefetch belongs to version 1");
    return;
  }
  if (backward)
    options.backward_prefetch = *backward == 0   ? dist::BackwardPrefetch::pre
                                : *backward == 1 ? dist::BackwardPrefetch::post
                                                 : dist::BackwardPrefetch::none;
  options.forward_prefetch = forward.value_or(options.forward_prefetch);
}

void FsdpReader::read_loading() {
  dist::FullyShardedOptions& options = plan_.options;
  const std::optional<bool> offload = keys_.flag("offload_params");
  options.cpu_offload = offload.value_or(request_.words.offload);
  if (request_.words.offload && !options.cpu_offload)
    problems_.add("offload_params is false, but fsdp says offload");
  const std::optional<bool> sync = keys_.flag("sync_module_states");
  const bool rank_zero_reads = keys_.flag("cpu_ram_efficient_loading").value_or(false);
  const std::optional<bool> originals = keys_.flag("use_orig_params");
  if (version_ == 2) {
    if (sync) ignored("sync_module_states", "version 2 always does");
    if (originals) ignored("use_orig_params", "version 2 always does");
  } else {
    options.sync_module_states = sync.value_or(true);
    if (rank_zero_reads && !options.sync_module_states)
      problems_.add(
          "cpu_ram_efficient_loading has the first process read the weights, so that "
          "sync_module_states must be true");
    if (originals && !*originals)
      ignored("use_orig_params false", "parameters always keep their names and groups here");
  }
  options.ignored_modules = keys_.texts("ignored_modules");
}

void FsdpReader::read_checkpoints() {
  const auto type = keys_.choice("state_dict_type",
                                 {"FULL_STATE_DICT", "LOCAL_STATE_DICT", "SHARDED_STATE_DICT"});
  if (type && *type == 1 && version_ == 2)
    problems_.add("state_dict_type LOCAL_STATE_DICT belongs to version 1; use SHARDED_STATE_DICT");
  // What LOCAL writes only as many processes can read; ours any number can.
  const bool sharded = type ? *type != 0 : version_ == 2;
  plan_.state_dict_type = sharded ? StateDictType::sharded : StateDictType::full;
}

void FsdpReader::read_activations() {
  plan_.activation_checkpointing = keys_.flag("activation_checkpointing").value_or(false);
  if (plan_.activation_checkpointing && args_.gradient_checkpointing)
    problems_.add(
        "activation_checkpointing and the argument gradient_checkpointing are two names of the "
        "same; set one");
}

void FsdpReader::read_inapplicable() {
  for (const char* key : {"xla", "xla_fsdp_v2", "xla_fsdp_grad_ckpt"})
    if (keys_.flag(key).value_or(false)) problems_.add(key, " is for TPUs; leave it out");
  if (keys_.take("xla_fsdp_settings")) ignored("xla_fsdp_settings", "it is for TPUs");
}

}  // namespace

// bf16: all three, as PyTorch's trainers set them. f16 has a largest number of 65504, which a sum
// of several processes' scaled gradients exceeds sooner than each of them, and a table of positions
// or a mask may on its own: gradients travel in f32, and buffers stay what they are.
void set_precision(dist::FullyShardedOptions& options, const TrainingArguments& args) {
  if (args.bf16) options.param_dtype = options.reduce_dtype = options.buffer_dtype = bf16;
  if (args.fp16) {
    options.param_dtype = f16;
    options.reduce_dtype = f32;
  }
}

ShardingPlan fsdp_plan(const FsdpRequest& request, const TrainingArguments& args,
                       nn::Module& model) {
  return FsdpReader(request, args, model).read();
}

}  // namespace tendril::sharding
