#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/optim/exact.h>
#include <tendril/optim/rule_optimizer.h>
#include <tendril/optim/schedule_free.h>

#include <algorithm>
#include <cmath>

namespace tendril::optim {
namespace {

template <class Options>
constexpr bool kAdam = std::is_same_v<Options, ScheduleFreeAdamWOptions>;

double beta_of(const ScheduleFreeAdamWOptions& options) { return options.beta1; }
double beta_of(const ScheduleFreeSgdOptions& options) { return options.momentum; }

const char* name_of(const ScheduleFreeAdamWOptions&) { return "ScheduleFreeAdamW"; }
const char* name_of(const ScheduleFreeSgdOptions&) { return "ScheduleFreeSgd"; }

void set_adam(ops::ScheduleFreeRule<true>& rule, const ScheduleFreeAdamWOptions& options,
              double t) {
  rule.beta2 = options.beta2;
  rule.new2 = 1.0 - options.beta2;
  rule.inverse_root2 = 1.0 / std::sqrt(1.0 - std::pow(options.beta2, t));
  rule.eps = options.eps;
}

void set_adam(ops::ScheduleFreeRule<false>&, const ScheduleFreeSgdOptions&, double) {}

}  // namespace

template <class Options>
void ScheduleFree<Options>::check(const Options& options) const {
  const char* const name = name_of(options);
  TENDRIL_CHECK(beta_of(options) > 0.0 && beta_of(options) < 1.0, "[", name,
                "] the weight of the average must be in (0, 1); got ", beta_of(options));
  if constexpr (kAdam<Options>) {
    check_betas(name, {options.beta2});
    check_not_negative(name, "eps", options.eps);
  }
  check_not_negative(name, "weight_decay", options.weight_decay);
  check_not_negative(name, "warmup_steps", static_cast<double>(options.warmup_steps));
}

template <class Options>
void ScheduleFree<Options>::update_all(std::span<Slot* const> slots) {
  using Rule = ops::ScheduleFreeRule<kAdam<Options>>;
  for (const Slot* slot : slots) {
    const auto mode = slot->numbers.find("train_mode");
    TENDRIL_CHECK(mode == slot->numbers.end() || mode->second == 1.0, "[step] \"", slot->name,
                  "\" has been moved to be evaluated; call train() first");
  }
  const auto states = [&](Slot& slot) {
    const bool first = slot.state.find("z") == slot.state.end();
    std::array<Tensor, Rule::kStates> list;
    list[0] = this->state_of(slot, "z");
    if (first) ops::copy(list[0], slot.parameter.detach());
    if constexpr (kAdam<Options>) list[1] = this->state_of(slot, "exp_avg_sq");
    return list;
  };
  const auto rule = [&](Slot& slot) {
    const Options& options = this->options_of(slot);
    const double t = static_cast<double>(slot.step);
    const double warm =
        slot.step <= options.warmup_steps ? t / static_cast<double>(options.warmup_steps) : 1.0;
    const double rate = this->lr(slot.group) * warm;
    double& largest = slot.numbers["lr_max"];
    double& sum = slot.numbers["weight_sum"];
    slot.numbers["train_mode"] = 1.0;
    largest = std::max(largest, rate);
    const double weight = std::pow(t, options.r) * std::pow(largest, options.weight_lr_power);
    sum += weight;
    const double average = sum > 0.0 ? weight / sum : 0.0;
    Rule rule{};
    rule.l2 = options.weight_decay;
    rule.average = average;
    rule.y_step = rate * (1.0 - beta_of(options) * (1.0 - average));
    rule.z_step = rate;
    set_adam(rule, options, t);
    return rule;
  };
  apply_rule<Rule>(slots, states, this->master_of, rule);
}

// Between y and x, which lie on a line with z.
template <class Options>
void ScheduleFree<Options>::move(Slot& slot, bool train_mode) {
  const auto mode = slot.numbers.find("train_mode");
  if (mode == slot.numbers.end() || (mode->second == 1.0) == train_mode) return;
  mode->second = train_mode ? 1.0 : 0.0;
  const double beta = beta_of(this->options_of(slot));
  const double toward_z = train_mode ? 1.0 - beta : 1.0 - 1.0 / beta;
  const Tensor master = this->master_of(slot);
  const Tensor value = exact_value(slot.parameter, master);
  const Tensor way = ops::sub(this->state_of(slot, "z"), value);
  set_exact(slot.parameter, master, ops::add(value, ops::mul(way, toward_z)));
}

template <class Options>
void ScheduleFree<Options>::train() {
  for (Slot& slot : this->slots()) move(slot, true);
}

template <class Options>
void ScheduleFree<Options>::eval() {
  for (Slot& slot : this->slots()) move(slot, false);
}

template <class Options>
std::vector<Optimizer::StateSpec> ScheduleFree<Options>::state_specs(const Slot& slot) const {
  if constexpr (kAdam<Options>) return this->like_parameter(slot, {"exp_avg_sq", "z"});
  return this->like_parameter(slot, {"z"});
}

template <class Options>
std::vector<std::string> ScheduleFree<Options>::number_names(const Slot&) const {
  return {"lr_max", "train_mode", "weight_sum"};
}

template class ScheduleFree<ScheduleFreeAdamWOptions>;
template class ScheduleFree<ScheduleFreeSgdOptions>;

ScheduleFreeAdamW::ScheduleFreeAdamW(const std::vector<NamedTensor>& parameters,
                                     const ScheduleFreeAdamWOptions& options) {
  add_param_group(parameters, options);
}

ScheduleFreeAdamW::ScheduleFreeAdamW(const std::vector<Tensor>& parameters,
                                     const ScheduleFreeAdamWOptions& options)
    : ScheduleFreeAdamW(numbered(parameters), options) {}

ScheduleFreeSgd::ScheduleFreeSgd(const std::vector<NamedTensor>& parameters,
                                 const ScheduleFreeSgdOptions& options) {
  add_param_group(parameters, options);
}

ScheduleFreeSgd::ScheduleFreeSgd(const std::vector<Tensor>& parameters,
                                 const ScheduleFreeSgdOptions& options)
    : ScheduleFreeSgd(numbered(parameters), options) {}

}  // namespace tendril::optim
