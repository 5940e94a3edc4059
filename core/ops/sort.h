// Sorting along one axis, on raw tensors. All sorts are stable: equal elements keep their order,
// whichever way they are sorted. NaN counts as the largest number, -0 equals 0.
#pragma once

#include <tendril/core/tensor.h>

namespace tendril::ops {

struct Sorted {
  Tensor values;   // x's dtype
  Tensor indices;  // i64, positions along the axis: values = gather(x, axis, indices)
};

TENDRIL_API Sorted sort(const Tensor& x, int64_t axis = -1, bool descending = false);
TENDRIL_API Tensor argsort(const Tensor& x, int64_t axis = -1, bool descending = false);
/// The first k of the sorted values, largest (or smallest) first. 0 <= k <= x.size(axis), else
/// Error.
TENDRIL_API Sorted topk(const Tensor& x, int64_t k, int64_t axis = -1, bool largest = true);

/// For sort and topk: dx (of x_shape) is g at the positions `indices`, else 0. g is shaped like
/// indices.
TENDRIL_API Tensor sort_backward(const Tensor& g, const Tensor& indices, const Shape& x_shape,
                                 int64_t axis);

}  // namespace tendril::ops
