// The affine layer: y = x W^T + b.
#pragma once

#include <tendril/nn/module.h>

namespace tendril::nn {

struct LinearOptions {
  bool bias = true;
  DType dtype = f32;
};

/// x (..., in) -> (..., out). Parameters: weight (out, in), bias (out), both at first uniform in
/// +-1/sqrt(in), as in PyTorch.
class TENDRIL_API Linear : public Module {
 public:
  Linear(int64_t in, int64_t out, const LinearOptions& options = {});
  /// Uses (and trains) existing tensors: how a head shares its weight with an Embedding.
  explicit Linear(const Tensor& weight, const Tensor& bias = {});

  Tensor forward(const Tensor& x) const;
  Tensor operator()(const Tensor& x) const { return forward(x); }

  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }  // undefined without one

 private:
  Tensor weight_, bias_;
};

}  // namespace tendril::nn
