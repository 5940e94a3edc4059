// Random draws from given probabilities. The numbers of draw `key` depend on the element only,
// never on the thread count.
#pragma once

#include <tendril/core/random.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

/// Draws `count` indices per row of weights (..., V) -> i64 (..., count), with probability in
/// proportion to the weights. Without replacement no index comes twice in a row, so a row needs
/// `count` positive weights. Error for negative, infinite or NaN weights and for rows without a
/// positive one.
TENDRIL_API Tensor multinomial(const Tensor& weights, int64_t count, bool replacement,
                               const RandomKey& key);

/// 1 with the given probability, else 0; in the dtype of `probability`, which lies in [0, 1] (a GPU
/// reports an Error at the next wait for it).
TENDRIL_API Tensor bernoulli(const Tensor& probability, const RandomKey& key);

}  // namespace tendril::ops
