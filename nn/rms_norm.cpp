#include <tendril/nn/rms_norm.h>

namespace tendril::nn {

RmsNorm::RmsNorm(int64_t channels, const RmsNormOptions& options) : eps_(options.eps) {
  TENDRIL_CHECK(channels > 0, "[RmsNorm] channels must be positive; got ", channels);
  weight_ = add_parameter("weight", ones({channels}, options.dtype));
}

Tensor RmsNorm::forward(const Tensor& x) const { return rms_norm(x, weight_, eps_); }

}  // namespace tendril::nn
