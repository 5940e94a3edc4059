// Private to optim: Adam's moments in 8 bits, under what names they are kept and by what rule they
// move.
#pragma once

#include <tendril/core/ops/quantized_rule_step.h>

#include <cmath>
#include <string>

namespace tendril::optim {

inline constexpr const char* kMomentNames[] = {"exp_avg", "exp_avg_sq"};

inline std::string codes_name(int moment) { return std::string(kMomentNames[moment]) + ".codes"; }
inline std::string absmax_name(int moment) { return std::string(kMomentNames[moment]) + ".absmax"; }

/// What the codes of a moment that is zero are full of.
template <class Rule>
double zero_code_of(int moment) {
  return ops::zero_code(Rule::kSigned[moment] ? ops::CodeMap::with_sign
                                              : ops::CodeMap::without_sign);
}

/// AdamW8bit's rule for options that have its betas and eps.
template <class Options>
ops::LateDecayAdamWRule late_decay_rule(const Options& options, double weight_decay, double lr,
                                        int64_t step) {
  const double t = static_cast<double>(step);
  const double root2 = std::sqrt(1.0 - std::pow(options.beta2, t));
  return {.beta1 = options.beta1,
          .new1 = 1.0 - options.beta1,
          .beta2 = options.beta2,
          .new2 = 1.0 - options.beta2,
          .step_size = lr * root2 / (1.0 - std::pow(options.beta1, t)),
          .eps = root2 * options.eps,
          .decay = lr * weight_decay};
}

}  // namespace tendril::optim
