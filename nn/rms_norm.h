// Root-mean-square normalisation (Zhang and Sennrich 2019).
#pragma once

#include <tendril/nn/module.h>

namespace tendril::nn {

struct RmsNormOptions {
  double eps = 1e-6;
  DType dtype = f32;
};

/// x / sqrt(mean(x^2) + eps) * weight over the last axis: x (..., channels) -> the same shape.
/// Parameter: weight (channels), ones.
class TENDRIL_API RmsNorm : public Module {
 public:
  explicit RmsNorm(int64_t channels, const RmsNormOptions& options = {});

  Tensor forward(const Tensor& x) const;
  Tensor operator()(const Tensor& x) const { return forward(x); }

 private:
  Tensor weight_;
  double eps_;
};

}  // namespace tendril::nn
