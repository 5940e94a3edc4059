// Limiting the size of gradients (Pascanu, Mikolov, Bengio 2013).
#pragma once

#include <vector>

#include <tendril/core/tensor.h>

namespace tendril::optim {

struct ClipOptions {
  double norm_type = 2.0;           // 2, or infinity for the largest magnitude
  bool error_if_nonfinite = false;  // Error when a gradient is infinite or NaN
};

/// Scales all gradients by max_norm / (norm + 1e-6) when that is below 1, and returns their norm
/// before: the norm of all gradients taken as one vector, in double, the same for any number of
/// threads. Tensors without a gradient are skipped, and one that is listed twice counts once. When
/// the norm is not finite the gradients stay as they are, so that the caller can skip the step. All
/// gradients must be on one device; a GPU is waited for once.
TENDRIL_API double clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm,
                                  const ClipOptions& options = {});

/// The same without waiting for a GPU: the norm is a tensor (f64, no axes) on the gradients'
/// device, and the GPU itself decides whether to scale. For steps that never stop the host; read
/// the norm later, or not at all.
TENDRIL_API Tensor clip_grad_norm_async(const std::vector<Tensor>& parameters, double max_norm,
                                        double norm_type = 2.0);

/// Brings each element of each gradient into [-limit, limit]; NaN stays. limit > 0. Tensors without
/// a gradient are skipped. Nobody waits for a GPU.
TENDRIL_API void clip_grad_value(const std::vector<Tensor>& parameters, double limit);

/// The norm alone.
TENDRIL_API double grad_norm(const std::vector<Tensor>& parameters, double norm_type = 2.0);

}  // namespace tendril::optim
