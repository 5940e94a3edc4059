// Choosing the next token from logits.
#pragma once

#include <span>

#include <tendril/core/random.h>

namespace tendril::nn {

struct SamplingOptions {
  double temperature = 1.0;  // divides the logits; 0 takes the largest (the first of equals)
  int64_t top_k = 0;         // > 0: only the k most likely
  double top_p =
      1.0;  // < 1: only the smallest set of most likely tokens whose probability reaches p
};

/// Draws an index with probability softmax(logits / temperature), restricted by top_k, then by
/// top_p and renormalised. Equal logits are ranked by index. Takes one draw of Stream::sampling
/// from `generator` unless greedy. Error for NaN logits, no logits or options out of range.
TENDRIL_API int64_t sample_token(std::span<const float> logits, const SamplingOptions& options,
                                 Generator& generator);

}  // namespace tendril::nn
