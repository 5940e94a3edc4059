// Private to optim: AdamW with eps on the root before its correction, and decay after the step, by
// the kernel that does both the other way round.
#pragma once

#include <tendril/core/ops/optimizer_step.h>
#include <tendril/core/ops/pointwise.h>

#include <cmath>

namespace tendril::optim {

/// sqrt(1 - beta2^t)
inline double root_correction(double beta2, int64_t step) {
  return std::sqrt(1.0 - std::pow(beta2, static_cast<double>(step)));
}

/// Without decay. The kernel adds eps to the corrected root.
inline ops::AdamWStep raw_root_step(double lr, double beta1, double beta2, double eps,
                                    int64_t step) {
  return {.lr = lr,
          .beta1 = beta1,
          .beta2 = beta2,
          .eps = eps / root_correction(beta2, step),
          .weight_decay = 0.0,
          .step = step};
}

/// The kernel decays first: (1 - d) (p - s) = p - d p - (1 - d) s with d = lr * weight_decay.
inline void decay_afterwards(ops::AdamWStep& step, double weight_decay) {
  const double kept = 1.0 - step.lr * weight_decay;
  step.lr *= kept;
  step.weight_decay = weight_decay / kept;
}

/// The value after a decay that comes last.
inline Tensor decayed(const Tensor& value, double decay) {
  return decay > 0.0 ? ops::sub(value, ops::mul(value, decay)) : value;
}

/// The order of decay needs something to be left.
inline void check_late_decay(const char* optimizer, double lr, double weight_decay) {
  TENDRIL_CHECK(lr * weight_decay < 1.0, "[", optimizer,
                "] lr * weight_decay must be below 1; got ", lr, " and ", weight_decay);
}

}  // namespace tendril::optim
