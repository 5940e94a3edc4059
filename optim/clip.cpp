#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/core/profiler.h>
#include <tendril/optim/clip.h>

#include <algorithm>
#include <cmath>

namespace tendril::optim {
namespace {

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

double norm_of(const std::vector<Tensor>& gradients, double norm_type) {
  TENDRIL_CHECK(norm_type == 2.0 || norm_type == INFINITY,
                "[grad_norm] norm_type must be 2 or infinity; got ", norm_type);
  double total = 0.0;
  if (norm_type == 2.0) {
    for (const Tensor& gradient : gradients) total += ops::sum_of_squares(gradient);
    return std::sqrt(total);
  }
  for (const Tensor& gradient : gradients) {
    const double largest = ops::largest_magnitude(gradient);
    if (largest > total || std::isnan(largest)) total = largest;
  }
  return total;
}

}  // namespace

double grad_norm(const std::vector<Tensor>& parameters, double norm_type) {
  return norm_of(gradients_of(parameters), norm_type);
}

double clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm,
                      const ClipOptions& options) {
  const ProfileRange range("clip_grad_norm");
  TENDRIL_CHECK(max_norm > 0.0, "[clip_grad_norm] max_norm must be positive; got ", max_norm);
  const std::vector<Tensor> gradients = gradients_of(parameters);
  const double norm = norm_of(gradients, options.norm_type);
  TENDRIL_CHECK(!options.error_if_nonfinite || std::isfinite(norm),
                "[clip_grad_norm] the gradients are not finite; got norm ", norm);
  const double factor = max_norm / (norm + 1e-6);
  if (!std::isfinite(norm) || factor >= 1.0) return norm;
  const NoGradGuard no_grad;
  for (const Tensor& gradient : gradients) mul_(gradient, factor);
  return norm;
}

}  // namespace tendril::optim
