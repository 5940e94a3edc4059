// Rotary position embedding (Su et al. 2021). Shapes: x, y (..., T, D), D even.
//
// Pair i of position t turns by the angle a = (offset + t) theta^(-2 i / D):
//   (u, v) -> (u cos a - v sin a, v cos a + u sin a)
// where (u, v) = (x[i], x[i + D/2]), or (x[2 i], x[2 i + 1]) when interleaved. The gradient of a
// rotation is the rotation back, by -a.
#pragma once

#include <tendril/core/tensor.h>

namespace tendril::ops {

TENDRIL_API Tensor rotary_embedding(const Tensor& x, double theta, int64_t offset,
                                    bool interleaved);
TENDRIL_API Tensor rotary_embedding_backward(const Tensor& g, double theta, int64_t offset,
                                             bool interleaved);

}  // namespace tendril::ops
