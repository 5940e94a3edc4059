// Arithmetic in place. Like copy(), these leave the version counter to their callers.
#pragma once

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// x += alpha * y; y broadcasts to x and is converted to x's dtype (to f32 when x is a 16-bit
/// float). Integers take only integer y and alpha. The two may overlap.
TENDRIL_API void add_in_place(const Tensor& x, const Tensor& y, double alpha);

/// x *= factor; integers take only integer factors.
TENDRIL_API void mul_in_place(const Tensor& x, double factor);

}  // namespace tendril::ops
