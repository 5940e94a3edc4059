// Layer normalisation (Ba, Kiros, Hinton 2016).
#pragma once

#include <tendril/nn/module.h>

namespace tendril::nn {

struct LayerNormOptions {
  double eps = 1e-5;
  bool bias = true;
  DType dtype = f32;
};

/// (x - mean) / sqrt(var + eps) * weight + bias over the last axis: x (..., channels) -> the same
/// shape. Parameters: weight (channels), ones; bias (channels), zeros.
class TENDRIL_API LayerNorm : public Module {
 public:
  explicit LayerNorm(int64_t channels, const LayerNormOptions& options = {});

  Tensor forward(const Tensor& x) const;
  Tensor operator()(const Tensor& x) const { return forward(x); }
  /// x + residual and its normalisation.
  SumAndNorm of_sum(const Tensor& x, const Tensor& residual) const;

 private:
  Tensor weight_, bias_;
  double eps_;
};

}  // namespace tendril::nn
