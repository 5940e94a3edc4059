// Text generation, token by token.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include <tendril/nn/causal_lm.h>
#include <tendril/nn/sampling.h>

namespace tendril::nn {

struct GenerateOptions {
  int64_t max_new_tokens = 100;
  double temperature = 1.0;  // 0: greedy
  int64_t top_k = 0;         // see SamplingOptions
  double top_p = 1.0;
  uint64_t seed = 0;  // the same seed gives the same tokens; no other generator is touched
  std::optional<int64_t> eos = {};  // generation ends after this token
  bool use_cache = true;  // false computes every position again for every token: slow, for checking
  std::function<void(int64_t token)> on_token =
      {};  // called with every new token as soon as it is known
};

/// Continues `prompt` and returns the new tokens only (with eos, if that ended it).
///
/// The model sees a window of at most max_positions() tokens. A longer prompt is cut to its last
/// max_positions() tokens; when the window is full, its older half is dropped and the newer half is
/// read again from position 0. So generation never ends for lack of positions, and costs two
/// positions per token on average. Runs in eval mode without recording; the modes are restored
/// afterwards, also when it throws.
TENDRIL_API std::vector<int64_t> generate(CausalLm& model, std::span<const int64_t> prompt,
                                          const GenerateOptions& options = {});

}  // namespace tendril::nn
