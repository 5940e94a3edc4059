// Floating-point operations of dense algebra, for the profiler: a multiplication and an addition
// each count one. Shapes must be valid.
#pragma once

#include <string>

#include <tendril/core/ops/attention.h>
#include <tendril/core/ops/feed_forward_weights.h>
#include <tendril/core/ops/op_list.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

/// (..., M, K) x (..., K, N) -> y (..., M, N), and x (..., K) W^T -> y (..., N): 2 K for each
/// element of y. A bias is not counted.
TENDRIL_API int64_t product_flops(const Tensor& y, int64_t k);

/// 2 for each combination of index values, after what stands in one operand alone has been summed
/// away.
TENDRIL_API int64_t einsum_flops(const std::string& equation, const Tensor& a, const Tensor& b);

/// Q K^T and P V, for the pairs that causality and window leave.
TENDRIL_API int64_t attention_flops(const Tensor& q, const Tensor& k,
                                    const AttentionSettings& settings);

/// The two products, or three with a gate.
TENDRIL_API int64_t feed_forward_flops(const Tensor& x, const FeedForwardWeights& weights);

/// Of the backward pass whose forward pass took `forward`; a and b: whether these operands want
/// gradients. Each is a product of the forward's size. Attention forms five products where forward
/// forms two; feed_forward counts as if x wanted its gradient.
TENDRIL_API int64_t backward_flops(Op op, int64_t forward, bool a, bool b);

}  // namespace tendril::ops
