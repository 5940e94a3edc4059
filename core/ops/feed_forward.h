// The feed-forward part of a transformer block (Vaswani et al. 2017), gated or not (Shazeer 2020),
// without keeping its widest tensor: backward forms the activations anew from the sums before them.
//
//   u = x up^T + up_bias        (..., H)    z = x gate^T + gate_bias   (..., H), only with a gate
//   a = f(u), with a gate f(z) u            formed block by block while a block of u is in the
//   cache y = a down^T + down_bias    (..., O)
//
//   da = dy down    ddown = dy^T a          each block of da becomes du (and dz) in the cache
//   du = da f'(u), with a gate du = da f(z) and dz = da u f'(z)
//   dup = du^T x    dgate = dz^T x          dx = du up + dz gate       biases: sums over the rows
#pragma once

#include <optional>

#include <tendril/core/ops/feed_forward_weights.h>
#include <tendril/core/ops/op_list.h>

namespace tendril::ops {

struct FeedForwardResult {
  Tensor output;     // (..., O)
  Tensor sums;       // u, for backward; undefined when not kept
  Tensor gate_sums;  // z; undefined without a gate
};

/// `activation` is a unary operation without parameters. Keeps the sums if `keep_sums`.
TENDRIL_API FeedForwardResult feed_forward(const Tensor& x, const FeedForwardWeights& weights,
                                           Op activation, bool keep_sums);

struct FeedForwardWanted {
  bool x, up, up_bias, down, down_bias, gate, gate_bias;
  // Of the gradients of x and of the three matrices; without it each gets its own. The sums are f32
  // whatever the operands, so f32 for operands of 16 bits spares a rounding.
  std::optional<DType> dtype = {};
};
struct FeedForwardGradients {
  Tensor x;
  FeedForwardWeights weights;
};
/// `saved` is what forward returned (its output is not used).
TENDRIL_API FeedForwardGradients feed_forward_backward(const Tensor& g, const Tensor& x,
                                                       const FeedForwardWeights& weights,
                                                       const FeedForwardResult& saved,
                                                       Op activation,
                                                       const FeedForwardWanted& wanted);

}  // namespace tendril::ops
