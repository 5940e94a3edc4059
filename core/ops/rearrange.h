// Dense rearrangements of whole tensors, and their gradients.
#pragma once

#include <vector>

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// Parts side by side along an axis; dtypes are promoted. Shapes agree outside the axis.
/// Gradient of part i: narrow(g, axis, begin of i, size of i), in the part's dtype.
TENDRIL_API Tensor cat(const std::vector<Tensor>& parts, int64_t axis);

/// Reversed along the axes (all without any). Gradient: flip(g, axes).
TENDRIL_API Tensor flip(const Tensor& x, const Shape& axes);

/// Element i moves to (i + shift) mod size. Gradient: roll(g, -shift, axis).
TENDRIL_API Tensor roll(const Tensor& x, int64_t shift, int64_t axis);

/// repeats[i] copies along axis i; more repeats than axes add leading axes.
TENDRIL_API Tensor repeat(const Tensor& x, const Shape& repeats);
/// The gradient (of `shape`): the sum over all copies.
TENDRIL_API Tensor repeat_backward(const Tensor& g, const Shape& shape, const Shape& repeats);

/// `padding` = {before_0, after_0, before_1, after_1, ...}; axes without a pair are left alone.
TENDRIL_API Tensor pad(const Tensor& x, const std::vector<int64_t>& padding, double value);
/// The gradient (of `shape`): a view of the inner part of g.
TENDRIL_API Tensor pad_backward(const Tensor& g, const Shape& shape,
                                const std::vector<int64_t>& padding);

/// Keeps elements (i, j) of the last two axes with j - i <= diagonal (tril) or >= diagonal (triu),
/// zero elsewhere. Gradient: the same of g.
TENDRIL_API Tensor tril(const Tensor& x, int64_t diagonal);
TENDRIL_API Tensor triu(const Tensor& x, int64_t diagonal);

}  // namespace tendril::ops
