#include <tendril/core/error.h>
#include <tendril/optim/schedule.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tendril::optim {
namespace {

void check(const char* schedule, int64_t step, const ScheduleOptions& o) {
  TENDRIL_CHECK(step >= 0 && o.warmup >= 0 && o.total >= 0, "[", schedule,
                "] steps must not be negative; got step ", step, ", warmup ", o.warmup, ", total ",
                o.total);
  TENDRIL_CHECK(o.min_ratio >= 0.0 && o.min_ratio <= 1.0, "[", schedule,
                "] min_ratio must be in [0, 1]; got ", o.min_ratio);
}

double warmup_factor(int64_t step, const ScheduleOptions& o) {
  return static_cast<double>(step) / static_cast<double>(o.warmup);
}

// How much of the way from warmup to total is done, in [0, 1].
double progress(int64_t step, const ScheduleOptions& o) {
  if (step >= o.total) return 1.0;
  return static_cast<double>(step - o.warmup) /
         static_cast<double>(std::max<int64_t>(1, o.total - o.warmup));
}

double above_minimum(double factor, const ScheduleOptions& o) {
  return o.min_ratio + (1.0 - o.min_ratio) * factor;
}

double half_wave(double p) { return 0.5 * (1.0 + std::cos(std::numbers::pi * p)); }

}  // namespace

double constant(int64_t step, const ScheduleOptions& options) {
  check("constant", step, options);
  return step < options.warmup ? warmup_factor(step, options) : 1.0;
}

double linear_decay(int64_t step, const ScheduleOptions& options) {
  check("linear_decay", step, options);
  if (step < options.warmup) return warmup_factor(step, options);
  return above_minimum(1.0 - progress(step, options), options);
}

double cosine(int64_t step, const ScheduleOptions& options) {
  check("cosine", step, options);
  if (step < options.warmup) return warmup_factor(step, options);
  return above_minimum(half_wave(progress(step, options)), options);
}

double cosine_with_restarts(int64_t step, const ScheduleOptions& options, int64_t cycles) {
  check("cosine_with_restarts", step, options);
  TENDRIL_CHECK(cycles >= 1, "[cosine_with_restarts] needs at least one cycle; got ", cycles);
  if (step < options.warmup) return warmup_factor(step, options);
  const double p = progress(step, options);
  if (p >= 1.0) return options.min_ratio;
  return above_minimum(half_wave(std::fmod(static_cast<double>(cycles) * p, 1.0)), options);
}

double polynomial(int64_t step, const ScheduleOptions& options, double power) {
  check("polynomial", step, options);
  TENDRIL_CHECK(power > 0.0, "[polynomial] the power must be positive; got ", power);
  if (step < options.warmup) return warmup_factor(step, options);
  return above_minimum(std::pow(1.0 - progress(step, options), power), options);
}

double inverse_sqrt(int64_t step, const ScheduleOptions& options) {
  check("inverse_sqrt", step, options);
  if (step < options.warmup) return warmup_factor(step, options);
  const double scale = options.warmup > 0 ? static_cast<double>(options.warmup) : 10000.0;
  return std::sqrt(scale / (static_cast<double>(step - options.warmup) + scale));
}

double warmup_stable_decay(int64_t step, const ScheduleOptions& options, double decay_fraction) {
  check("warmup_stable_decay", step, options);
  TENDRIL_CHECK(decay_fraction > 0.0 && decay_fraction <= 1.0,
                "[warmup_stable_decay] decay_fraction must be in (0, 1]; got ", decay_fraction);
  if (step < options.warmup)
    return static_cast<double>(step + 1) / static_cast<double>(options.warmup);
  if (step >= options.total) return options.min_ratio;
  const double total = static_cast<double>(options.total);
  const double start = std::floor((1.0 - decay_fraction) * total);
  if (static_cast<double>(step) < start) return 1.0;
  return above_minimum(1.0 - std::sqrt((static_cast<double>(step) - start) / (total - start)),
                       options);
}

}  // namespace tendril::optim
