#include <tendril/nn/layer_norm.h>

namespace tendril::nn {

LayerNorm::LayerNorm(int64_t channels, const LayerNormOptions& options) : eps_(options.eps) {
  TENDRIL_CHECK(channels > 0, "[LayerNorm] channels must be positive; got ", channels);
  weight_ = add_parameter("weight", ones({channels}, options.dtype));
  if (options.bias) bias_ = add_parameter("bias", zeros({channels}, options.dtype));
}

Tensor LayerNorm::forward(const Tensor& x) const { return layer_norm(x, weight_, bias_, eps_); }

SumAndNorm LayerNorm::of_sum(const Tensor& x, const Tensor& residual) const {
  return add_layer_norm(x, residual, weight_, bias_, eps_);
}

}  // namespace tendril::nn
