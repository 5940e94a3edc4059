// Reductions, forward and backward, on raw tensors. `axes`, `keepdim`, empty reductions and result
// dtypes are as <tendril/autograd/functions.h> says. In the formulas r runs over the values that go
// into one result y, n is their number, and g is the gradient of y, shaped like y.
#pragma once

#include <optional>

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// y = sum_r x_r.   dx_r = g (a view of g with stride 0 on the reduced axes).
TENDRIL_API Tensor sum(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
TENDRIL_API Tensor sum_backward(const Tensor& g, const Shape& x_shape, const Shape& axes,
                                bool keepdim);

/// The inverse of broadcasting: sums `g` over the axes that were added or stretched from size 1
/// when a tensor of `shape` was broadcast to g's shape. g itself when the shapes are equal.
TENDRIL_API Tensor sum_to(const Tensor& g, const Shape& shape);

}  // namespace tendril::ops
