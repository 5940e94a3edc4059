#include <tendril/optim/ademamix.h>
#include <tendril/optim/rule_optimizer.h>

#include <algorithm>
#include <cmath>

namespace tendril::optim {
namespace {

double share(int64_t step, int64_t until) {
  return step < until ? static_cast<double>(step) / static_cast<double>(until) : 1.0;
}

// Between beta1 and beta3 so that the mean's half-life grows evenly.
double slow_beta(const AdEmaMixOptions& o, int64_t step) {
  const double part = share(step, o.t_beta3);
  if (part == 1.0 || o.beta1 == 0.0 || o.beta3 == 0.0) return o.beta3;
  const double first = std::log(o.beta1), last = std::log(o.beta3);
  return std::min(o.beta3, std::exp(first * last / ((1.0 - part) * last + part * first)));
}

}  // namespace

AdEmaMix::AdEmaMix(const std::vector<NamedTensor>& parameters, const AdEmaMixOptions& options) {
  add_param_group(parameters, options);
}

AdEmaMix::AdEmaMix(const std::vector<Tensor>& parameters, const AdEmaMixOptions& options)
    : AdEmaMix(numbered(parameters), options) {}

void AdEmaMix::check(const AdEmaMixOptions& options) const {
  check_betas("AdEmaMix", {options.beta1, options.beta2, options.beta3});
  check_not_negative("AdEmaMix", "alpha", options.alpha);
  check_not_negative("AdEmaMix", "eps", options.eps);
  check_not_negative("AdEmaMix", "weight_decay", options.weight_decay);
}

void AdEmaMix::update_all(std::span<Slot* const> slots) {
  const auto states = [&](Slot& slot) {
    return std::array{state_of(slot, "exp_avg_fast"), state_of(slot, "exp_avg_slow"),
                      state_of(slot, "exp_avg_sq")};
  };
  const auto rule = [&](const Slot& slot) {
    const AdEmaMixOptions& options = options_of(slot);
    const double t = static_cast<double>(slot.step);
    const double beta3 = slow_beta(options, slot.step);
    return ops::AdEmaMixRule{.decay = lr(slot.group) * options.weight_decay,
                             .beta1 = options.beta1,
                             .new1 = 1.0 - options.beta1,
                             .beta2 = options.beta2,
                             .new2 = 1.0 - options.beta2,
                             .beta3 = beta3,
                             .new3 = 1.0 - beta3,
                             .inverse_correction1 = 1.0 / (1.0 - std::pow(options.beta1, t)),
                             .inverse_root2 = 1.0 / std::sqrt(1.0 - std::pow(options.beta2, t)),
                             .alpha = options.alpha * share(slot.step, options.t_alpha),
                             .eps = options.eps,
                             .step_size = lr(slot.group)};
  };
  apply_rule<ops::AdEmaMixRule>(slots, states, master_of, rule, gate());
}

std::vector<Optimizer::StateSpec> AdEmaMix::state_specs(const Slot& slot) const {
  return like_parameter(slot, {"exp_avg_fast", "exp_avg_slow", "exp_avg_sq"});
}

}  // namespace tendril::optim
