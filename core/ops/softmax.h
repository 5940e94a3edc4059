// softmax and log_softmax along one axis. Shapes: x, y, g, dx all (..., n, ...).
//
//   softmax      y_i = exp(x_i) / sum_j exp(x_j)       dx_i = y_i (g_i - sum_j g_j y_j)
//   log_softmax  y_i = x_i - log sum_j exp(x_j)        dx_i = g_i - exp(y_i) sum_j g_j
//
// The row's maximum is subtracted first, so large logits do not overflow. A row that is all -inf
// has no softmax and gives NaN. Backward needs the output alone.
#pragma once

#include <tendril/core/tensor.h>

namespace tendril::ops {

TENDRIL_API Tensor softmax(const Tensor& x, int64_t axis);
TENDRIL_API Tensor softmax_backward(const Tensor& g, const Tensor& y, int64_t axis);

TENDRIL_API Tensor log_softmax(const Tensor& x, int64_t axis);
TENDRIL_API Tensor log_softmax_backward(const Tensor& g, const Tensor& y, int64_t axis);

}  // namespace tendril::ops
