#include <tendril/trainer/callbacks/progress_bar.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <tendril/core/error.h>
#include <tendril/trainer/callbacks/log_row.h>

namespace tendril {
namespace {

constexpr int64_t kBarCells = 20;

std::string two_digits(int64_t value) { return (value < 10 ? "0" : "") + std::to_string(value); }

// What comes after the bar, the most wanted first.
std::vector<std::string> details(const ProgressBar& bar) {
  std::vector<std::string> parts;
  if (bar.loss) parts.push_back("loss " + short_number(*bar.loss));
  if (bar.learning_rate) parts.push_back("lr " + short_number(*bar.learning_rate, 3));
  const int64_t done = bar.step - bar.first_step;
  if (done <= 0 || bar.seconds <= 0.0) return parts;
  const double steps_per_second = static_cast<double>(done) / bar.seconds;
  if (bar.tokens)
    parts.push_back(short_number(std::round(static_cast<double>(*bar.tokens) / bar.seconds), 9) +
                    " tokens/s");
  else
    parts.push_back(short_number(steps_per_second, 3) + " steps/s");
  const int64_t left = std::max<int64_t>(bar.max_steps - bar.step, 0);
  parts.push_back("ETA " + duration_text(static_cast<double>(left) / steps_per_second));
  return parts;
}

}  // namespace

std::string duration_text(double seconds) {
  const auto total = static_cast<int64_t>(std::llround(std::clamp(seconds, 0.0, 3.6e9)));
  const int64_t hours = total / 3600, minutes = total / 60 % 60;
  const std::string seconds_text = two_digits(total % 60);
  if (hours == 0) return detail::concat(minutes, ":", seconds_text);
  return detail::concat(hours, ":", two_digits(minutes), ":", seconds_text);
}

std::string progress_bar_text(const ProgressBar& bar, int64_t width) {
  const double share =
      bar.max_steps > 0
          ? std::clamp(static_cast<double>(bar.step) / static_cast<double>(bar.max_steps), 0.0, 1.0)
          : 0.0;
  const auto filled = static_cast<size_t>(share * kBarCells);
  std::string text = std::to_string(bar.step) + "/" + std::to_string(bar.max_steps) + " [" +
                     std::string(filled, '#') + std::string(kBarCells - filled, '.') + "] " +
                     std::to_string(static_cast<int64_t>(share * 100)) + "%";
  const auto limit = static_cast<size_t>(std::max<int64_t>(width, 0));
  for (const std::string& part : details(bar)) {
    if (text.size() + 2 + part.size() > limit) break;
    text += "  " + part;
  }
  return text.substr(0, limit);
}

}  // namespace tendril
