// Normalisation over the last axis. Shapes: x, y, g (..., C); weight, bias (C) or undefined, both
// of one floating dtype that may differ from x's; mean, rstd (rows), rows = product of the leading
// axes, f32 (f64 for an f64 x).
//
// layer_norm (Ba et al. 2016): h = (x - mean) rstd, rstd = 1 / sqrt(mean((x - mean)^2) + eps)
//   y = h weight + bias
//   m = g weight; dx = rstd (m - mean(m) - h mean(m h)); dweight = sum_rows g h; dbias = sum_rows g
// rms_norm (Zhang and Sennrich 2019): h = x rstd, rstd = 1 / sqrt(mean(x^2) + eps)
//   y = h weight
//   m = g weight; dx = rstd (m - h mean(m h)); dweight = sum_rows g h
// add_layer_norm: s = x + residual, rounded to x's dtype; y = layer_norm(s)
//   dx = dresidual = the gradient of layer_norm + g_sum, the gradient that reaches s elsewhere
#pragma once

#include <tendril/core/tensor.h>

namespace tendril::ops {

struct LayerNormResult {
  Tensor y, mean, rstd;
};
struct RmsNormResult {
  Tensor y, rstd;
};
struct AddLayerNormResult {
  Tensor sum, y, mean, rstd;
};
struct NormGradients {
  Tensor x, weight, bias;
};

TENDRIL_API LayerNormResult layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                       double eps);
/// The gradients of weight and bias are undefined unless `with_weight`, `with_bias`. Their dtype is
/// that of `weight`, or x's when it is undefined.
TENDRIL_API NormGradients layer_norm_backward(const Tensor& g, const Tensor& x,
                                              const Tensor& weight, const Tensor& mean,
                                              const Tensor& rstd, bool with_weight, bool with_bias);

TENDRIL_API RmsNormResult rms_norm(const Tensor& x, const Tensor& weight, double eps);
TENDRIL_API NormGradients rms_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                                            const Tensor& rstd, bool with_weight);

/// The residual has x's shape, and its dtype or one that promotes to it. One pass over them where
/// layer_norm(add(x, residual)) takes two.
TENDRIL_API AddLayerNormResult add_layer_norm(const Tensor& x, const Tensor& residual,
                                              const Tensor& weight, const Tensor& bias, double eps);
/// g is the gradient of y; g_sum, that of the sum, may be undefined. The result's x is the gradient
/// of both x and residual.
TENDRIL_API NormGradients add_layer_norm_backward(const Tensor& g, const Tensor& g_sum,
                                                  const Tensor& sum, const Tensor& weight,
                                                  const Tensor& mean, const Tensor& rstd,
                                                  bool with_weight, bool with_bias);

}  // namespace tendril::ops
