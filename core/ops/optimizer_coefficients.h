// Private to core: the options of a step as the numbers that its kernels use.
#pragma once

#include <cmath>

#include <tendril/core/ops/optimizer_kernels.h>
#include <tendril/core/ops/optimizer_step.h>

namespace tendril::ops {

template <class T>
tendril::cpu::AdamWCoefficients<T> coefficients(const AdamWStep& o) {
  const double t = static_cast<double>(o.step);
  const double correction1 = 1.0 - std::pow(o.beta1, t), correction2 = 1.0 - std::pow(o.beta2, t);
  return {.sign = T(o.maximize ? -1 : 1),
          .decay = T(o.lr * o.weight_decay),
          .l2 = T(o.l2),
          .new_mean = T(1.0 - o.beta1),
          .old_square = T(o.beta2),
          .new_square = T(1.0 - o.beta2),
          .inverse_root = T(1.0 / std::sqrt(correction2)),
          .eps = T(o.eps),
          .step_size = T(o.lr / correction1)};
}

template <class T>
tendril::cpu::SgdCoefficients<T> coefficients(const SgdStep& o) {
  return {.sign = T(o.maximize ? -1 : 1),
          .decay = T(o.weight_decay),
          .momentum = T(o.momentum),
          .new_gradient = T(o.first ? 1.0 : 1.0 - o.dampening),
          .step_size = T(o.lr),
          .nesterov = o.nesterov};
}

}  // namespace tendril::ops
