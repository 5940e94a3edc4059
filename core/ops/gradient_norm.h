// The norm of many tensors taken as one vector, and their scaling by it. All in double and in a
// fixed order: partial sums over fixed pieces.
#pragma once

#include <span>

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// Sum of x^2 and largest |x| (NaN if there is one; 0 for an empty tensor). Both wait for a GPU.
TENDRIL_API double sum_of_squares(const Tensor& x);
TENDRIL_API double largest_magnitude(const Tensor& x);

/// The 2-norm, or the largest magnitude for norm_type infinity, of all elements of all tensors: f64
/// with no axes, on their device, which nobody waits for. 0 for no tensors.
TENDRIL_API Tensor norm_of_all(std::span<const Tensor> tensors, double norm_type);

/// Multiplies all tensors in place by max_norm / (norm + 1e-6) where that is below 1 and the norm
/// finite. `norm` is what norm_of_all() gave; a GPU reads it itself.
TENDRIL_API void clip_all(std::span<const Tensor> tensors, const Tensor& norm, double max_norm);

}  // namespace tendril::ops
