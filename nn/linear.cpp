#include <tendril/nn/init.h>
#include <tendril/nn/linear.h>

#include <cmath>

namespace tendril::nn {

Linear::Linear(int64_t in, int64_t out, const LinearOptions& options) {
  TENDRIL_CHECK(in > 0 && out > 0, "[Linear] sizes must be positive; got in ", in, ", out ", out);
  weight_ = add_parameter("weight", Tensor::empty({out, in}, options.dtype));
  init::kaiming_uniform_(weight_, std::sqrt(5.0));
  if (!options.bias) return;
  bias_ = add_parameter("bias", Tensor::empty({out}, options.dtype));
  const double bound = 1.0 / std::sqrt(static_cast<double>(in));
  init::uniform_(bias_, -bound, bound);
}

Linear::Linear(const Tensor& weight, const Tensor& bias) {
  TENDRIL_CHECK(weight.rank() == 2, "[Linear] needs a weight (out, in); got shape ",
                weight.shape());
  TENDRIL_CHECK(!bias.defined() || bias.shape() == Shape{weight.size(0)}, "[Linear] needs a bias (",
                weight.size(0), "); got shape ", bias.shape());
  weight_ = add_parameter("weight", weight);
  if (bias.defined()) bias_ = add_parameter("bias", bias);
}

Tensor Linear::forward(const Tensor& x) const { return linear(x, weight_, bias_); }

}  // namespace tendril::nn
