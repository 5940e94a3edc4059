// Dropout (Srivastava et al. 2014).
#pragma once

#include <tendril/nn/module.h>

namespace tendril::nn {

/// In training mode zeroes each element with probability p and scales the rest by 1 / (1 - p); else
/// the identity. x (...) -> the same shape.
class TENDRIL_API Dropout : public Module {
 public:
  explicit Dropout(double p = 0.5);

  Tensor forward(const Tensor& x) const;
  Tensor operator()(const Tensor& x) const { return forward(x); }

  double p() const { return p_; }

 private:
  double p_;
};

}  // namespace tendril::nn
