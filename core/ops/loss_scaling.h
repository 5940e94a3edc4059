// Dynamic loss scaling (Micikevicius et al. 2018): dividing gradients by the scale while looking
// for overflow, and moving the scale. All numbers stay on the device, which nobody waits for.
#pragma once

#include <cstdint>
#include <span>

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// Multiplies all tensors in place by 1 / scale, rounded to f32. Where an element was infinity or
/// NaN before, `found_inf` becomes 1; else it stays. scale: f32, found_inf: i64, both without axes
/// and on the device of the tensors.
TENDRIL_API void unscale_all(std::span<const Tensor> tensors, const Tensor& scale,
                             const Tensor& found_inf);

struct LossScaleRule {
  double growth_factor, backoff_factor;
  int64_t growth_interval;
};

/// scale (f32) *= backoff_factor and tracker (i64) = 0 where found_inf (i64) is not 0. Otherwise
/// ++tracker; when that reaches growth_interval, scale *= growth_factor unless that overflows, and
/// tracker = 0.
TENDRIL_API void update_loss_scale(const Tensor& scale, const Tensor& tracker,
                                   const Tensor& found_inf, const LossScaleRule& rule);

}  // namespace tendril::ops
