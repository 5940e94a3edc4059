#include <tendril/nn/sequential.h>

namespace tendril::nn {

Sequential& Sequential::push(Function function) {
  TENDRIL_CHECK(function, "[Sequential] the function to push is empty");
  steps_.push_back(std::move(function));
  return *this;
}

Tensor Sequential::forward(const Tensor& x) const {
  Tensor y = x;
  for (const Function& step : steps_) y = step(y);
  return y;
}

}  // namespace tendril::nn
