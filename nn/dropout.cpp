#include <tendril/nn/dropout.h>

namespace tendril::nn {

Dropout::Dropout(double p) : p_(p) {
  TENDRIL_CHECK(p >= 0.0 && p < 1.0, "[Dropout] p must be in [0, 1); got ", p);
}

Tensor Dropout::forward(const Tensor& x) const {
  return p_ > 0.0 && training() ? dropout(x, p_, true) : x;
}

}  // namespace tendril::nn
