// Initialisation of weights, in place. All draws come from default_generator() on Stream::init.
//
// For a weight (out, in, ...): fan_in = in * receptive field, fan_out = out * receptive field.
#pragma once

#include <tendril/core/tensor.h>

namespace tendril::nn::init {

/// Normal with the given mean and standard deviation.
TENDRIL_API void normal_(const Tensor& x, double mean = 0.0, double std = 1.0);
/// Uniform in [low, high).
TENDRIL_API void uniform_(const Tensor& x, double low = 0.0, double high = 1.0);
/// Normal, conditioned on [low, high] by drawing again what falls outside. Error when less than 1 %
/// of the normal distribution lies inside.
TENDRIL_API void trunc_normal_(const Tensor& x, double mean = 0.0, double std = 1.0,
                               double low = -2.0, double high = 2.0);
/// Uniform in +-gain * sqrt(3 / fan_in), gain = sqrt(2 / (1 + a^2)) (He et al. 2015); a is the
/// negative slope of the leaky ReLU that follows.
TENDRIL_API void kaiming_uniform_(const Tensor& x, double a = 0.0);
/// Uniform in +-gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010).
TENDRIL_API void xavier_uniform_(const Tensor& x, double gain = 1.0);
TENDRIL_API void constant_(const Tensor& x, double value);
TENDRIL_API void zeros_(const Tensor& x);
TENDRIL_API void ones_(const Tensor& x);

/// While in scope, this thread's random initialisations leave memory as it is: for models whose
/// weights are loaded right after they are made.
class TENDRIL_API SkipInit {
 public:
  SkipInit();
  ~SkipInit();
  SkipInit(const SkipInit&) = delete;
  SkipInit& operator=(const SkipInit&) = delete;

 private:
  bool previous_;
};

}  // namespace tendril::nn::init
