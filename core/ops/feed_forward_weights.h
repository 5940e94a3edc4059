// What feed_forward() multiplies with.
#pragma once

#include <tendril/core/tensor.h>

namespace tendril {

/// Weights as linear() takes them; what is undefined is left out (not up and down).
struct FeedForwardWeights {
  Tensor up = {};         // (H, C)
  Tensor up_bias = {};    // (H)
  Tensor down = {};       // (O, H)
  Tensor down_bias = {};  // (O)
  Tensor gate = {};       // (H, C)
  Tensor gate_bias = {};  // (H)
};

}  // namespace tendril
