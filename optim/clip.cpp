#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/for_each_tensor.h>
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

template <class Body>
void for_each(const std::vector<Tensor>& gradients, const Body& body) {
  for_each_tensor(
      gradients.size(), [&](size_t i) { return gradients[i].numel(); }, body);
}

double norm_of(const std::vector<Tensor>& gradients, double norm_type) {
  TENDRIL_CHECK(norm_type == 2.0 || norm_type == INFINITY,
                "[grad_norm] norm_type must be 2 or infinity; got ", norm_type);
  std::vector<double> parts(gradients.size());
  double total = 0.0;
  if (norm_type == 2.0) {
    for_each(gradients, [&](size_t i) { parts[i] = ops::sum_of_squares(gradients[i]); });
    for (const double part : parts) total += part;
    return std::sqrt(total);
  }
  for_each(gradients, [&](size_t i) { parts[i] = ops::largest_magnitude(gradients[i]); });
  for (const double part : parts)
    if (part > total || std::isnan(part)) total = part;
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
  for_each(gradients, [&](size_t i) {
    const NoGradGuard no_grad;
    mul_(gradients[i], factor);
  });
  return norm;
}

}  // namespace tendril::optim
