// Reading tests/golden/*.safetensors and measuring how far a result is from what PyTorch computed.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <tendril/core/safetensors.h>
#include <tendril/core/tensor.h>

namespace tendril::testing {

inline std::map<std::string, Tensor> load_golden(const std::string& family) {
  return load_safetensors(std::string(TENDRIL_SOURCE_DIR) + "/tests/golden/" + family +
                          ".safetensors");
}

/// Largest |result - truth| / max(|truth|, min(1, largest |truth|)): relative to each element, or
/// to the largest (at most 1) for elements below that. NaN and infinities must be where the truth
/// has them.
inline double golden_deviation(const Tensor& result, const Tensor& truth) {
  const double infinity = std::numeric_limits<double>::infinity();
  if (result.shape() != truth.shape()) return infinity;
  const std::vector<double> got = result.to_vector<double>(), expected = truth.to_vector<double>();
  double largest = 0.0, worst = 0.0;
  for (const double value : expected) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  const double floor = std::min(1.0, largest);
  for (size_t i = 0; i < got.size(); ++i) {
    const bool same = got[i] == expected[i] || (std::isnan(got[i]) && std::isnan(expected[i]));
    if (same) continue;
    if (!std::isfinite(got[i]) || !std::isfinite(expected[i])) return infinity;
    worst =
        std::max(worst, std::abs(got[i] - expected[i]) / std::max(std::abs(expected[i]), floor));
  }
  return worst;
}

/// Largest |result - truth| over the largest |truth|.
inline double max_norm_deviation(const Tensor& result, const Tensor& truth) {
  if (result.shape() != truth.shape()) return std::numeric_limits<double>::infinity();
  const std::vector<double> got = result.to_vector<double>(), expected = truth.to_vector<double>();
  double largest = std::numeric_limits<double>::min(), worst = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(expected[i]));
    worst = std::max(worst, std::abs(got[i] - expected[i]));
  }
  return worst / largest;
}

}  // namespace tendril::testing
