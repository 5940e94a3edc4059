#include <tendril/trainer/sharding/deepspeed.h>

#include <array>

#include <tendril/core/log.h>
#include <tendril/trainer/arguments/type.h>
#include <tendril/trainer/sharding/block_classes.h>
#include <tendril/trainer/sharding/config_section.h>
#include <tendril/trainer/sharding/deepspeed_keys.h>
#include <tendril/trainer/sharding/deepspeed_match.h>
#include <tendril/trainer/sharding/fsdp.h>

namespace tendril::sharding {
namespace {

constexpr const char* kZero = "zero_optimization";

struct Stage {
  dist::ShardingStrategy strategy;
  bool reduces_every_batch;
};
constexpr std::array<Stage, 4> kStages = {{{dist::ShardingStrategy::no_shard, false},
                                           {dist::ShardingStrategy::shard_grad_op, false},
                                           {dist::ShardingStrategy::shard_grad_op, true},
                                           {dist::ShardingStrategy::full_shard, true}}};

// Here "auto" stands for the default; there is nothing among the arguments to take. The stage must
// be said.
Json without_auto(const Json& object) {
  if (!object.is_object()) return object;
  Json result = Json::object();
  for (const auto& [name, value] : object.members()) {
    const bool is_auto = value.is_string() && value.as_string() == "auto";
    if (!is_auto || name == "stage") result.set(name, without_auto(value));
  }
  return result;
}

class DeepSpeedReader {
 public:
  DeepSpeedReader(const DeepSpeedRequest& request, const TrainingArguments& args, nn::Module& model)
      : args_(args),
        model_(model),
        problems_("[deepspeed] " + request.origin),
        config_(request.config, "", problems_) {
    match_arguments(config_, args, request.world_size, problems_);
  }

  ShardingPlan read() {
    plan_.sharded = true;
    set_precision(plan_.options, args_);
    read_zero();
    read_wire_dtype();
    note_knobs(config_, "");
    refuse(config_, "", problems_);
    config_.finish();
    problems_.finish();
    if (!knobs_.empty())
      log_info(problems_.where(), ": accepted, without effect here: ", listed(knobs_));
    return plan_;
  }

 private:
  void read_zero();
  void read_wire_dtype();
  bool is_on_cpu(ConfigSection& zero, const std::string& part);
  void note_knobs(ConfigSection& section, const std::string& name) {
    for (std::string& key : take_knobs(section, name)) knobs_.push_back(std::move(key));
  }

  const TrainingArguments& args_;
  nn::Module& model_;
  Problems problems_;
  ConfigSection config_;
  std::vector<std::string> knobs_;
  ShardingPlan plan_;
};

// Blocks that repeat are units, as with fsdp's auto_wrap: DeepSpeed has no such choice.
void DeepSpeedReader::read_zero() {
  const Json* object = config_.take(kZero);
  if (!object) {
    problems_.add("there is no ", kZero, "; {\"stage\": 2} would be one");
    return;
  }
  ConfigSection zero(without_auto(*object), std::string(kZero) + ".", problems_);
  const int64_t stage = zero.integer("stage", 0).value_or(0);
  if (stage >= static_cast<int64_t>(kStages.size())) {
    problems_.add(zero.path("stage"), " must be 0, 1, 2 or 3; got ", stage);
    return;
  }
  plan_.options.strategy = kStages[static_cast<size_t>(stage)].strategy;
  plan_.reduces_every_batch = kStages[static_cast<size_t>(stage)].reduces_every_batch;
  const std::vector<std::string> classes = block_classes(model_);
  if (!classes.empty()) plan_.options.wrap = dist::wrap_class(classes);

  plan_.options.cpu_offload = is_on_cpu(zero, "offload_optimizer");
  if (is_on_cpu(zero, "offload_param")) {
    if (stage == 3)
      plan_.options.cpu_offload = true;
    else
      log_warning(problems_.where(), ": ", zero.path("offload_param"), " has no effect at stage ",
                  stage, ": it is stage 3 that shards weights");
  }
  const bool gathers = zero.flag("stage3_gather_16bit_weights_on_model_save").value_or(false);
  plan_.state_dict_type = stage == 3 && !gathers ? StateDictType::sharded : StateDictType::full;
  note_knobs(zero, kZero);
  refuse(zero, kZero, problems_);
  zero.finish();
}

bool DeepSpeedReader::is_on_cpu(ConfigSection& zero, const std::string& part) {
  ConfigSection offload = zero.section(part);
  const std::string device = offload.text("device").value_or("none");
  if (device == "nvme")
    problems_.add(offload.path("device"),
                  " is nvme: offloading to disks is not in this version; "
                  "use cpu");
  else if (device != "cpu" && device != "none")
    problems_.add(offload.path("device"), " must be none or cpu; got ", shown(device));
  note_knobs(offload, part);
  offload.finish();
  return device == "cpu";
}

// How gradients travel and in what they are summed up over batches.
void DeepSpeedReader::read_wire_dtype() {
  const auto dtype = config_.choice("communication_data_type", {"fp32", "bf16", "fp16"});
  constexpr std::array<DType, 3> kDtypes = {f32, bf16, f16};
  if (dtype) plan_.options.reduce_dtype = kDtypes[*dtype];
  ConfigSection types = config_.section("data_types");
  if (const Json* sums = types.take("grad_accum_dtype"))
    if (!sums->is_string() || sums->as_string() != "fp32")
      problems_.add(types.path("grad_accum_dtype"),
                    " must be fp32: the parts are kept in f32; got ", shown(*sums));
  types.finish();
}

}  // namespace

ShardingPlan deepspeed_plan(const DeepSpeedRequest& request, const TrainingArguments& args,
                            nn::Module& model) {
  return DeepSpeedReader(request, args, model).read();
}

}  // namespace tendril::sharding
