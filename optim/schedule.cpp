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

// Which part of a stretch is done, in [0, 1]; an empty stretch is done at its end.
double fraction(int64_t done, int64_t length) {
  if (done >= length) return 1.0;
  return static_cast<double>(done) / static_cast<double>(std::max<int64_t>(1, length));
}

// How much of the way from warmup to total is done, in [0, 1].
double progress(int64_t step, const ScheduleOptions& o) {
  return step >= o.total ? 1.0 : fraction(step - o.warmup, o.total - o.warmup);
}

double above(double min_ratio, double factor) { return min_ratio + (1.0 - min_ratio) * factor; }

double above_minimum(double factor, const ScheduleOptions& o) { return above(o.min_ratio, factor); }

double half_wave(double p) { return 0.5 * (1.0 + std::cos(std::numbers::pi * p)); }

void check_cycles(const char* schedule, double cycles) {
  TENDRIL_CHECK(std::isfinite(cycles) && cycles > 0.0, "[", schedule,
                "] the number of cycles must be positive; got ", cycles);
}

double warmup_ramp(Ramp ramp, double p) {
  if (ramp == Ramp::cosine) return 1.0 - half_wave(p);
  return ramp == Ramp::linear ? p : 1.0 - std::sqrt(1.0 - p);
}

double decay_ramp(Ramp ramp, double p, double cycles) {
  if (ramp == Ramp::cosine) return half_wave(2.0 * cycles * p);
  return ramp == Ramp::linear ? 1.0 - p : 1.0 - std::sqrt(p);
}

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

double cosine(int64_t step, const ScheduleOptions& options, double cycles) {
  check("cosine", step, options);
  check_cycles("cosine", cycles);
  if (step < options.warmup) return warmup_factor(step, options);
  return above_minimum(half_wave(2.0 * cycles * progress(step, options)), options);
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

double inverse_sqrt(int64_t step, const ScheduleOptions& options, double scale) {
  check("inverse_sqrt", step, options);
  TENDRIL_CHECK(std::isfinite(scale) && scale >= 0.0,
                "[inverse_sqrt] the scale must not be negative; got ", scale);
  if (step < options.warmup) return warmup_factor(step, options);
  if (scale == 0.0) scale = options.warmup > 0 ? static_cast<double>(options.warmup) : 10000.0;
  return std::sqrt(scale / (static_cast<double>(step - options.warmup) + scale));
}

double early_cosine(int64_t step, const EarlyCosineOptions& options) {
  const ScheduleOptions plain = {options.warmup, options.total, options.min_ratio};
  check("early_cosine", step, plain);
  check_cycles("early_cosine", options.cycles);
  const double start = options.start_ratio.value_or(0.0);
  TENDRIL_CHECK(start >= 0.0 && start <= 1.0, "[early_cosine] start_ratio must be in [0, 1]; got ",
                start);
  if (step < options.warmup && options.start_ratio)
    return above(
        *options.start_ratio,
        static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, options.warmup - 1)));
  if (step < options.warmup) return warmup_factor(step + 1, plain);
  return above_minimum(half_wave(2.0 * options.cycles * progress(step + 1, plain)), plain);
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

double warmup_stable_decay(int64_t step, const StableDecayOptions& options) {
  const ScheduleOptions plain = {options.warmup, 0, options.min_ratio};
  check("warmup_stable_decay", step, plain);
  check_cycles("warmup_stable_decay", options.cycles);
  TENDRIL_CHECK(options.decay >= 0, "[warmup_stable_decay] steps must not be negative; got decay ",
                options.decay);
  if (step < options.warmup)
    return above_minimum(warmup_ramp(options.warmup_ramp, warmup_factor(step, plain)), plain);
  const int64_t decaying = step - options.warmup - options.stable;
  if (decaying < 0) return 1.0;
  if (decaying >= options.decay) return options.min_ratio;
  const double p = fraction(decaying, options.decay);
  return above_minimum(decay_ramp(options.decay_ramp, p, options.cycles), plain);
}

}  // namespace tendril::optim
