// What a caller may choose about a loss.
#pragma once

#include <cstdint>

namespace tendril {

enum class Reduction { mean, sum, none };

struct CrossEntropyOptions {
  int64_t ignore_index = -100;
  double label_smoothing = 0.0;  // in [0, 1]
  Reduction reduction =
      Reduction::mean;  // mean: over the targets that are not ignored (0 when there are none)
};

}  // namespace tendril
