// The text of a progress bar, apart from when and where it is drawn.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <tendril/core/api.h>

namespace tendril {

struct ProgressBar {
  int64_t step = 0, max_steps = 0;
  int64_t first_step = 0;  // where this session began; above 0 after a resume
  double seconds = 0.0;    // since then
  std::optional<double> loss = std::nullopt, learning_rate = std::nullopt;
  std::optional<int64_t> tokens = std::nullopt;  // seen since then, where they are counted
};

/// "125/2000 [##......]  6%  loss 1.2345  lr 5e-05  12.5 steps/s  ETA 2:30", in at most `width`
/// characters; parts from the right are left out where they do not fit. Speed and time left are
/// those of this session. With tokens, tokens/s instead of steps/s.
TENDRIL_API std::string progress_bar_text(const ProgressBar& bar, int64_t width);

/// 75 -> "1:15", 3675 -> "1:01:15".
TENDRIL_API std::string duration_text(double seconds);

}  // namespace tendril
