#include <tendril/optim/gradients.h>

#include <algorithm>

namespace tendril::optim {

std::vector<Tensor> gradients_of(const std::vector<Tensor>& parameters) {
  std::vector<Tensor> gradients;
  for (const Tensor& parameter : parameters) {
    const Tensor gradient = parameter.grad();
    if (gradient.defined() &&
        std::none_of(gradients.begin(), gradients.end(),
                     [&](const Tensor& other) { return other.is_same(gradient); }))
      gradients.push_back(gradient);
  }
  return gradients;
}

}  // namespace tendril::optim
