#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/core/ops/reduce.h>
#include <tendril/optim/rule_optimizer.h>
#include <tendril/optim/stable_adamw.h>

#include <cmath>

namespace tendril::optim {
namespace {

// The decay that makes the average of the first t values unbiased.
double unbiased(double beta, int64_t step) {
  const double t = static_cast<double>(step);
  return beta * (1.0 - std::pow(beta, t - 1.0)) / (1.0 - std::pow(beta, t));
}

// The share of its rate that a tensor takes: one number in f64, on its device.
Tensor share_of(const Tensor& excess) {
  const Tensor size = ops::unary(Op::sqrt, ops::cast(ops::mean(excess), f64));
  return ops::div(1.0, ops::unary(Op::clamp_min, size, 1.0));
}

template <class Rule>
void apply(const ops::RuleUpdate<Rule>& update) {
  ops::apply_rules(std::span<const ops::RuleUpdate<Rule>>(&update, 1));
}

}  // namespace

StableAdamW::StableAdamW(const std::vector<NamedTensor>& parameters,
                         const StableAdamWOptions& options) {
  add_param_group(parameters, options);
}

StableAdamW::StableAdamW(const std::vector<Tensor>& parameters, const StableAdamWOptions& options)
    : StableAdamW(numbered(parameters), options) {}

void StableAdamW::check(const StableAdamWOptions& options) const {
  check_betas("StableAdamW", {options.beta1, options.beta2});
  check_not_negative("StableAdamW", "weight_decay", options.weight_decay);
  TENDRIL_CHECK(options.eps > 0.0, "[StableAdamW] eps must be positive; got ", options.eps);
  TENDRIL_CHECK(!options.decouple_lr || options.max_lr.value_or(options.lr) > 0.0,
                "[StableAdamW] decouple_lr needs a positive max_lr; got ",
                options.max_lr.value_or(options.lr));
}

void StableAdamW::update(Slot& slot, const Tensor& gradient, double lr) {
  const StableAdamWOptions& options = options_of(slot);
  const Tensor master = master_of(slot);
  const Tensor mean = state_of(slot, "exp_avg"), square = state_of(slot, "exp_avg_sq");
  const Tensor excess = Tensor::empty(mean.shape(), mean.dtype(), mean.device());
  const double beta1 = unbiased(options.beta1, slot.step);
  const double beta2 = unbiased(options.beta2, slot.step);
  apply(ops::RuleUpdate<ops::StableMomentsRule>{slot.parameter,
                                                gradient,
                                                master,
                                                {mean, square, excess},
                                                {.new1 = 1.0 - beta1,
                                                 .beta2 = beta2,
                                                 .new2 = 1.0 - beta2,
                                                 .least = options.eps * options.eps}});
  const double reference = options.decouple_lr ? options.max_lr.value_or(options.lr) : 1.0;
  const double decay = lr / reference * options.weight_decay;
  if (excess.device().is_cpu()) {
    const double share = share_of(excess).item<double>();
    apply(ops::RuleUpdate<ops::StableStepRule<false>>{
        slot.parameter,
        gradient,
        master,
        {mean, square},
        {.decay = share * decay, .eps = options.eps, .step_size = share * lr}});
  } else {
    ops::copy(excess, share_of(excess));
    apply(ops::RuleUpdate<ops::StableStepRule<true>>{
        slot.parameter,
        gradient,
        master,
        {mean, square, excess},
        {.decay = decay, .eps = options.eps, .step_size = lr}});
  }
}

std::vector<Optimizer::StateSpec> StableAdamW::state_specs(const Slot& slot) const {
  return like_parameter(slot, {"exp_avg", "exp_avg_sq"});
}

}  // namespace tendril::optim
