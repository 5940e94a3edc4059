// Gradient descent on the line of trainer_tools.h in plain doubles: what a Trainer must come to.
#pragma once

#include <cmath>
#include <vector>

namespace tendril::testing {

/// logits = a x + b.
struct Line {
  double a = 0.0, b = 0.0;
};

/// The mean of (a x + b - labels)^2 over examples [begin, end) of line_data, and its gradient.
struct LineLoss {
  double loss = 0.0;
  Line gradient;
  double norm() const { return std::hypot(gradient.a, gradient.b); }
};

inline LineLoss line_loss(const Line& line, int begin, int end) {
  LineLoss result;
  const double share = 1.0 / (end - begin);
  for (int i = begin; i < end; ++i) {
    const double x = i / 10.0;
    const double error = line.a * x + line.b - (2.0 * x + 1.0);
    result.loss += share * error * error;
    result.gradient.a += share * 2.0 * error * x;
    result.gradient.b += share * 2.0 * error;
  }
  return result;
}

/// The mean over several batches, each given by its first example and the one past its last.
struct Range {
  int begin, end;
};
inline LineLoss line_loss(const Line& line, const std::vector<Range>& batches) {
  LineLoss result;
  for (const Range& batch : batches) {
    const LineLoss one = line_loss(line, batch.begin, batch.end);
    result.loss += one.loss / static_cast<double>(batches.size());
    result.gradient.a += one.gradient.a / static_cast<double>(batches.size());
    result.gradient.b += one.gradient.b / static_cast<double>(batches.size());
  }
  return result;
}

inline Line descend(const Line& line, const LineLoss& loss, double rate) {
  return {line.a - rate * loss.gradient.a, line.b - rate * loss.gradient.b};
}

/// Ten examples in batches of 2, two of them to a step: the three steps of a pass in order. The
/// last has one batch alone.
inline const std::vector<std::vector<Range>> kWindowsOfTen = {
    {{0, 2}, {2, 4}}, {{4, 6}, {6, 8}}, {{8, 10}}};

}  // namespace tendril::testing
