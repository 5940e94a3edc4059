// Reductions, forward and backward, on raw tensors. Axes, keepdim, empty reductions and ties are as
// <tendril/autograd/functions.h> says.
//
// In the formulas r runs over the n values that go into one result y, and g is the gradient of y,
// shaped like y. Floating results have x's dtype; they are accumulated in double (or in vector
// lanes of float whose sums are short) and rounded once. The same bits come out on any number of
// threads.
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

/// y = sum_r x_r / n; f32 for integers and bools.   dx_r = g / n.
TENDRIL_API Tensor mean(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
TENDRIL_API Tensor mean_backward(const Tensor& g, const Shape& x_shape, const Shape& axes,
                                 bool keepdim);

/// y = sum_r (x_r - mean)^2 / (n - correction); NaN when there is nothing to divide by.
/// dx_r = 2 g (x_r - mean) / (n - correction).
TENDRIL_API Tensor var(const Tensor& x, const Shape& axes = {}, bool keepdim = false,
                       int64_t correction = 1);
TENDRIL_API Tensor var_backward(const Tensor& g, const Tensor& x, const Shape& axes, bool keepdim,
                                int64_t correction);

/// y = sqrt(var).   dx_r = g (x_r - mean) / ((n - correction) y); 0 where y = 0.
TENDRIL_API Tensor std(const Tensor& x, const Shape& axes = {}, bool keepdim = false,
                       int64_t correction = 1);
TENDRIL_API Tensor std_backward(const Tensor& g, const Tensor& x, const Tensor& y,
                                const Shape& axes, bool keepdim, int64_t correction);

/// y = (sum_r |x_r|^p)^(1/p) for p > 0; p = infinity: max_r |x_r|.
/// dx_r = g sign(x_r) (|x_r| / y)^(p - 1); 0 where x_r = 0; p = infinity: g sign(x_r) at the first
/// largest |x_r|.
TENDRIL_API Tensor norm(const Tensor& x, double p = 2.0, const Shape& axes = {},
                        bool keepdim = false);
TENDRIL_API Tensor norm_backward(const Tensor& g, const Tensor& x, const Tensor& y, double p,
                                 const Shape& axes, bool keepdim);

/// y = log sum_r exp(x_r), shifted by the largest x_r.   dx_r = g exp(x_r - y), with y recomputed
/// (a y rounded to 16 bits would be too coarse for the exponent).
TENDRIL_API Tensor logsumexp(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
TENDRIL_API Tensor logsumexp_backward(const Tensor& g, const Tensor& x, const Shape& axes,
                                      bool keepdim);

/// y = prod_r x_r; i64 for integers and bools.   dx_r = g prod_{s != r} x_s, without division.
TENDRIL_API Tensor prod(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
TENDRIL_API Tensor prod_backward(const Tensor& g, const Tensor& x, const Shape& axes, bool keepdim);

/// The largest and the smallest value; NaN wins.   dx = g at its first occurrence, else 0.
TENDRIL_API Tensor max(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
TENDRIL_API Tensor min(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
TENDRIL_API Tensor max_backward(const Tensor& g, const Tensor& x, const Shape& axes, bool keepdim);
TENDRIL_API Tensor min_backward(const Tensor& g, const Tensor& x, const Shape& axes, bool keepdim);

/// i64 index of the first largest (smallest) value along `axis`, or in the flattened tensor.
TENDRIL_API Tensor argmax(const Tensor& x, std::optional<int64_t> axis = {}, bool keepdim = false);
TENDRIL_API Tensor argmin(const Tensor& x, std::optional<int64_t> axis = {}, bool keepdim = false);

/// Whether any (all) values differ from 0; NaN does. Nothing: any is false, all is true.
TENDRIL_API Tensor any(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
TENDRIL_API Tensor all(const Tensor& x, const Shape& axes = {}, bool keepdim = false);

/// y_i = x_0 + ... + x_i along `axis`; i64 for integers and bools.   dx_i = g_i + ... + g_(n-1).
TENDRIL_API Tensor cumsum(const Tensor& x, int64_t axis);
TENDRIL_API Tensor cumsum_backward(const Tensor& g, int64_t axis);

}  // namespace tendril::ops
