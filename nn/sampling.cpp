#include <tendril/core/error.h>
#include <tendril/nn/sampling.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace tendril::nn {
namespace {

void check(std::span<const float> logits, const SamplingOptions& options) {
  TENDRIL_CHECK(options.temperature >= 0.0 && std::isfinite(options.temperature),
                "[sample_token] temperature must be finite and not negative; got ",
                options.temperature);
  TENDRIL_CHECK(options.top_k >= 0, "[sample_token] top_k must not be negative; got ",
                options.top_k);
  TENDRIL_CHECK(options.top_p > 0.0 && options.top_p <= 1.0,
                "[sample_token] top_p must be in (0, 1]; got ", options.top_p);
  TENDRIL_CHECK(!logits.empty(), "[sample_token] there are no logits");
  float largest = -INFINITY;
  for (const float value : logits) {
    TENDRIL_CHECK(!std::isnan(value),
                  "[sample_token] the logits contain NaN; has the model diverged?");
    largest = std::max(largest, value);
  }
  TENDRIL_CHECK(std::isfinite(largest), "[sample_token] the largest logit must be finite; got ",
                largest);
}

}  // namespace

int64_t sample_token(std::span<const float> logits, const SamplingOptions& options,
                     Generator& generator) {
  check(logits, options);
  if (options.temperature == 0.0)
    return std::max_element(logits.begin(), logits.end()) - logits.begin();

  // Candidates, most likely first when a restriction needs the order.
  std::vector<int64_t> tokens(logits.size());
  std::iota(tokens.begin(), tokens.end(), 0);
  const auto likelier = [&](int64_t a, int64_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  const size_t kept =
      options.top_k > 0 ? std::min<size_t>(options.top_k, tokens.size()) : tokens.size();
  if (options.top_p < 1.0 || kept < tokens.size()) {
    std::partial_sort(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(kept),
                      tokens.end(), likelier);
    tokens.resize(kept);
  }

  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weights(tokens.size());
  double total = 0.0;
  for (size_t i = 0; i < tokens.size(); ++i)
    total += weights[i] = std::exp((logits[tokens[i]] - largest) / options.temperature);
  if (options.top_p < 1.0) {
    double reached = 0.0;
    size_t count = 0;
    while (count < weights.size() && reached < options.top_p * total) reached += weights[count++];
    weights.resize(count);
    total = reached;
  }

  const RandomKey key = generator.next(Stream::sampling);
  const double uniform =
      ((static_cast<uint64_t>(key.bits(0)) << 21) ^ (key.bits(1) >> 11)) * 0x1p-53;
  double rest = uniform * total;
  for (size_t i = 0; i < weights.size(); ++i) {
    rest -= weights[i];
    if (rest < 0.0) return tokens[i];
  }
  // Rounding left a sliver beyond the last: take the last token that is possible at all.
  size_t last = weights.size() - 1;
  while (last > 0 && weights[last] == 0.0) --last;
  return tokens[last];
}

}  // namespace tendril::nn
