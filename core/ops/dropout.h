// Dropout (Srivastava et al. 2014), inverted: y_i = 0 with probability p, else x_i / (1 - p).
//
// Element i (in row-major order) is dropped iff key.bits(i) < drop_threshold(p). The mask is a
// function of the key, so nothing is stored and the backward pass is the same function of the
// gradient:
//   dx = dropout(g, p, key)
#pragma once

#include <tendril/core/random.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

/// Error unless p is in [0, 1] and x is floating.
TENDRIL_API void check_dropout(const Tensor& x, double p);
/// p = 1 gives zeros.
TENDRIL_API Tensor dropout(const Tensor& x, double p, RandomKey key);

}  // namespace tendril::ops
