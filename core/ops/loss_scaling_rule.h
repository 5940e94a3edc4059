// Private to core: how a loss scale moves, on the CPU as on a GPU.
#pragma once

#include <cmath>

#include <tendril/core/api.h>
#include <tendril/core/ops/loss_scaling.h>

namespace tendril::ops {

/// Its inverse is finite.
inline constexpr float kLeastLossScale = 1.17549435e-38f;

/// As PyTorch rounds it; with the usual powers of two it is exact.
TENDRIL_HD inline float inverse_loss_scale(float scale) {
  return static_cast<float>(1.0 / static_cast<double>(scale));
}

TENDRIL_HD inline void move_loss_scale(float& scale, int64_t& tracker, bool found_inf,
                                       const LossScaleRule& rule) {
  if (found_inf) {
    const float less = static_cast<float>(scale * rule.backoff_factor);
    if (less >= kLeastLossScale) scale = less;
    tracker = 0;
  } else if (++tracker >= rule.growth_interval) {
    const float grown = static_cast<float>(scale * rule.growth_factor);
    if (std::isfinite(grown)) scale = grown;
    tracker = 0;
  }
}

}  // namespace tendril::ops
