// Private to the trainer: numbers as its summaries show them.
#pragma once

#include <cmath>

namespace tendril {

/// Times have 4 decimals and rates 3, as in the Hugging Face Trainer's metrics.
inline double rounded(double value, int decimals) {
  const double scale = std::pow(10.0, decimals);
  return std::round(value * scale) / scale;
}

}  // namespace tendril
