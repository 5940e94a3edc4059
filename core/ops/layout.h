// Views: other shapes and strides over the same memory, and their gradients. Nothing here moves a
// number except reshape of a layout that allows no view.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// Strides under which x's memory reads as `shape` in the same order; none when only a copy can.
/// Both shapes must have the same number of elements.
TENDRIL_API std::optional<Strides> view_strides(const Tensor& x, const Shape& shape);

/// Same elements, same order; one size may be -1. A view when the strides allow, else a copy.
/// Gradient: reshape(g, shape of x).
TENDRIL_API Tensor reshape(const Tensor& x, const Shape& shape);
/// (..., C) -> (rows, C)
TENDRIL_API Shape rows_shape(const Tensor& x);
TENDRIL_API Tensor as_rows(const Tensor& x);
/// Whether a matrix is the transposed view of a dense one.
TENDRIL_API bool is_column_major(const Tensor& x);
/// reshape that must not copy.
TENDRIL_API Tensor view(const Tensor& x, const Shape& shape);

/// Axis i of the result is axis axes[i] of x.
TENDRIL_API Tensor permute(const Tensor& x, const Shape& axes);
/// Gradient: permute(g, inverse_permutation(axes, rank)).
TENDRIL_API Shape inverse_permutation(const Shape& axes, int64_t rank);
TENDRIL_API Tensor transpose(const Tensor& x, int64_t axis0, int64_t axis1);

/// Repeats size-1 axes (and new leading ones) with stride 0; -1 keeps a size.
/// Gradient: sum_to(g, shape of x).
TENDRIL_API Tensor expand(const Tensor& x, const Shape& shape);

/// x[..., start:stop:step, ...] with Python's clamping.
TENDRIL_API Tensor slice(const Tensor& x, int64_t axis, int64_t start,
                         std::optional<int64_t> stop = {}, int64_t step = 1);
/// The gradient: g in its place, zero elsewhere.
TENDRIL_API Tensor slice_backward(const Tensor& g, const Shape& shape, int64_t axis, int64_t start,
                                  std::optional<int64_t> stop, int64_t step);

/// `size` elements of an axis from `begin` on; both must lie inside.
TENDRIL_API Tensor narrow(const Tensor& x, int64_t axis, int64_t begin, int64_t size);
/// x[..., index, ...]; the axis goes away.
TENDRIL_API Tensor select(const Tensor& x, int64_t axis, int64_t index);
/// The gradient: g in its place, zero elsewhere.
TENDRIL_API Tensor select_backward(const Tensor& g, const Shape& shape, int64_t axis,
                                   int64_t index);

/// Sizes of consecutive pieces of `size`, of which the last may be smaller.
TENDRIL_API std::vector<int64_t> split_sizes(int64_t total, int64_t size);
/// Consecutive pieces of the given sizes, which must add up to the axis.
TENDRIL_API std::vector<Tensor> split(const Tensor& x, std::span<const int64_t> sizes,
                                      int64_t axis);
/// The gradient (of `shape`): the pieces side by side; an undefined piece is zero. At least one is
/// defined. A view, without copying, when the pieces are neighbours in memory already: attention's
/// backward writes the gradients of q, k and v so, for a joint projection that was split.
TENDRIL_API Tensor split_backward(std::span<const Tensor> pieces, std::span<const int64_t> sizes,
                                  const Shape& shape, int64_t axis);

/// Without its size-1 axes, or without the given one. Gradient: reshape.
TENDRIL_API Tensor squeeze(const Tensor& x, std::optional<int64_t> axis = {});
/// With a new axis of size 1 at `axis`. Gradient: reshape.
TENDRIL_API Tensor unsqueeze(const Tensor& x, int64_t axis);

/// Elements (i, i + offset) of two axes, as a new last axis.
TENDRIL_API Tensor diagonal(const Tensor& x, int64_t offset, int64_t axis0, int64_t axis1);
/// The gradient: g on the diagonal, zero elsewhere.
TENDRIL_API Tensor diagonal_backward(const Tensor& g, const Shape& shape, int64_t offset,
                                     int64_t axis0, int64_t axis1);

}  // namespace tendril::ops
