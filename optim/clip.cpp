#include <tendril/autograd/tape.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/gradient_norm.h>
#include <tendril/core/profiler.h>
#include <tendril/optim/clip.h>
#include <tendril/optim/gradients.h>
#include <tendril/optim/pieces.h>

#include <cmath>

namespace tendril::optim {

double grad_norm(const std::vector<Tensor>& parameters, double norm_type) {
  return ops::norm_of_all(gradients_of(parameters), norm_type).item<double>();
}

Tensor clip_grad_norm_async(const std::vector<Tensor>& parameters, double max_norm,
                            double norm_type) {
  const ProfileRange range("clip_grad_norm");
  TENDRIL_CHECK(max_norm > 0.0, "[clip_grad_norm] max_norm must be positive; got ", max_norm);
  const std::vector<Tensor> gradients = gradients_of(parameters);
  const Tensor norm = ops::norm_of_all(gradients, norm_type);
  ops::clip_all(gradients, norm, max_norm);
  for (const Tensor& gradient : gradients) gradient.bump_version();
  return norm;
}

double clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm,
                      const ClipOptions& options) {
  const double norm = clip_grad_norm_async(parameters, max_norm, options.norm_type).item<double>();
  TENDRIL_CHECK(!options.error_if_nonfinite || std::isfinite(norm),
                "[clip_grad_norm] the gradients are not finite; got norm ", norm);
  return norm;
}

void clip_grad_value(const std::vector<Tensor>& parameters, double limit) {
  const ProfileRange range("clip_grad_value");
  TENDRIL_CHECK(limit > 0.0, "[clip_grad_value] the limit must be positive; got ", limit);
  const NoGradGuard no_grad;
  for (const Tensor& gradient : gradients_of(parameters)) {
    for_each_piece(gradient, [&](const Piece& piece) {
      const Tensor part = piece.of(gradient);
      ops::copy(part, clamp(part, -limit, limit));
    });
    gradient.bump_version();
  }
}

}  // namespace tendril::optim
