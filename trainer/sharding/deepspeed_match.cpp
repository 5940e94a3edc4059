#include <tendril/trainer/sharding/deepspeed_match.h>

#include <algorithm>

#include <tendril/trainer/arguments/type.h>
#include <tendril/trainer/sharding/deepspeed_keys.h>

namespace tendril::sharding {
namespace {

bool is_auto(const Json& value) { return value.is_string() && value.as_string() == "auto"; }

// Exact, unless the product is so large that nobody has such a batch.
Json product(int64_t a, int64_t b, int64_t c) {
  const double result = static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c);
  return result < 1e15 ? Json(a * b * c) : Json(result);
}

// 1e-4 and "0.0001" are the same, as are 1 and 1.0.
bool is_same(const Json& value, const Json& expected) {
  if (expected.is_array()) {
    if (!value.is_array() || value.items().size() != expected.items().size()) return false;
    return std::equal(value.items().begin(), value.items().end(), expected.items().begin(),
                      is_same);
  }
  if (!expected.is_number()) return value.dump() == expected.dump();
  Problems unused("");
  Json object = Json::object();
  object.set("value", value);
  const std::optional<double> number = ConfigSection(object, "", unused).number("value");
  return number && *number == expected.as_double();
}

class Matcher {
 public:
  Matcher(const TrainingArguments& args, Problems& problems) : args_(args), problems_(problems) {}

  void match(ConfigSection& section, const std::string& key, const Json& expected,
             const std::string& argument) {
    const Json* value = section.take(key);
    if (!value || is_auto(*value) || is_same(*value, expected)) return;
    differs(section.path(key), shown(*value), argument, shown(expected));
  }
  void match_precision(ConfigSection& config, const std::string& name, bool expected);
  void match_optimizer(ConfigSection& config);
  void match_schedule(ConfigSection& config);

 private:
  void differs(const std::string& key, const std::string& value, const std::string& argument,
               const std::string& expected) {
    problems_.add("ds ", key, "=", value, " vs hf ", argument, "=", expected);
  }
  void match_warmup(ConfigSection& params);
  std::string schedule_name() const {
    return argument_type<SchedulerType>().to_json(&args_.lr_scheduler_type).as_string();
  }

  const TrainingArguments& args_;
  Problems& problems_;
};

void Matcher::match_precision(ConfigSection& config, const std::string& name, bool expected) {
  if (!config.take(name)) return;
  ConfigSection section = config.section(name);
  if (const Json* enabled = section.take("enabled"); enabled && !is_auto(*enabled))
    if (const std::optional<bool> flag = section.flag("enabled"); flag && *flag != expected)
      differs(section.path("enabled"), *flag ? "true" : "false", name + "|" + name + "_full_eval",
              expected ? "true" : "false");
  take_knobs(section, name);
  refuse(section, name, problems_);
  section.finish();
}

// DeepSpeed's Adam decays weights as AdamW does unless adam_w_mode is false.
void Matcher::match_optimizer(ConfigSection& config) {
  if (!config.take("optimizer")) return;
  ConfigSection section = config.section("optimizer");
  const std::string type = section.text("type").value_or("");
  ConfigSection params = section.section("params");
  const bool decoupled = params.flag("adam_w_mode").value_or(true) || type == "AdamW";
  if (type != "Adam" && type != "AdamW") {
    problems_.add(section.path("type"), " must be Adam or AdamW; got ", json_quote(type),
                  "; for others set the argument optim (lion_32bit, sgd, adagrad, muon ...) and "
                  "leave the section out");
    return;
  }
  const std::vector<std::string> fitting =
      decoupled ? std::vector<std::string>{"adamw_torch", "adamw_torch_fused"}
                : std::vector<std::string>{"adam"};
  if (std::find(fitting.begin(), fitting.end(), args_.optim) == fitting.end())
    problems_.add("ds ", section.path("type"), "=", type, " vs hf optim=", args_.optim, " (",
                  fitting[0], " would be the same)");
  match(params, "lr", args_.learning_rate, "learning_rate");
  match(params, "betas", Json::Array{args_.adam_beta1, args_.adam_beta2}, "adam_beta1, adam_beta2");
  match(params, "eps", args_.adam_epsilon, "adam_epsilon");
  match(params, "weight_decay", args_.weight_decay, "weight_decay");
  if (!params.flag("bias_correction").value_or(true))
    problems_.add(params.path("bias_correction"), " must be true: optim ", fitting[0],
                  " always corrects");
  take_knobs(params, "optimizer");
  refuse(params, "optimizer", problems_);
  params.finish();
  section.finish();
}

// A share of all steps is a number only when it is known how many there are.
void Matcher::match_warmup(ConfigSection& params) {
  const bool by_ratio = args_.warmup_steps <= 0.0 && args_.warmup_ratio.value_or(0.0) > 0.0;
  const double given = by_ratio ? *args_.warmup_ratio : args_.warmup_steps;
  const bool is_known = args_.max_steps > 0 || given == 0.0 || (!by_ratio && given >= 1.0);
  const Json expected =
      is_known ? Json(args_.get_warmup_steps(std::max<int64_t>(args_.max_steps, 0))) : Json(given);
  match(params, "warmup_num_steps", expected, by_ratio ? "warmup_ratio" : "warmup_steps");
}

void Matcher::match_schedule(ConfigSection& config) {
  if (!config.take("scheduler")) return;
  ConfigSection section = config.section("scheduler");
  const std::string type = section.text("type").value_or("");
  if (type != "WarmupLR" && type != "WarmupDecayLR") {
    problems_.add(section.path("type"), " must be WarmupLR or WarmupDecayLR; got ",
                  json_quote(type),
                  "; for others set the argument lr_scheduler_type and leave the section out");
    return;
  }
  const std::string fitting = type == "WarmupLR" ? "constant_with_warmup" : "linear";
  if (schedule_name() != fitting)
    problems_.add("ds ", section.path("type"), "=", type,
                  " vs hf lr_scheduler_type=", schedule_name(), " (", fitting,
                  " would be the same)");
  ConfigSection params = section.section("params");
  match(params, "warmup_min_lr", 0.0, "the rate that warm-up starts from");
  match(params, "warmup_max_lr", args_.learning_rate, "learning_rate");
  match(params, "warmup_type", "linear", "the kind of warm-up");
  match_warmup(params);
  if (type == "WarmupDecayLR") match(params, "total_num_steps", args_.max_steps, "max_steps");
  take_knobs(params, "scheduler");
  params.finish();
  section.finish();
}

}  // namespace

void match_arguments(ConfigSection& config, const TrainingArguments& args, int world_size,
                     Problems& problems) {
  Matcher matcher(args, problems);
  const int64_t accumulation = args.gradient_accumulation_steps;
  const int64_t micro = args.per_device_train_batch_size;
  matcher.match(config, "train_micro_batch_size_per_gpu", micro, "per_device_train_batch_size");
  matcher.match(config, "gradient_accumulation_steps", accumulation, "gradient_accumulation_steps");
  matcher.match(config, "train_batch_size", product(world_size, micro, accumulation),
                "processes * per_device_train_batch_size * gradient_accumulation_steps");
  matcher.match(config, "gradient_clipping", args.max_grad_norm, "max_grad_norm");
  matcher.match_precision(config, "fp16", args.fp16 || args.fp16_full_eval);
  matcher.match_precision(config, "bf16", args.bf16 || args.bf16_full_eval);
  matcher.match_optimizer(config);
  matcher.match_schedule(config);
}

}  // namespace tendril::sharding
