// Learning-rate schedules: pure functions from the step (0 for the first update) to a factor of the
// base rate. Nothing has to be stored or replayed to resume; see Optimizer::scale_lr.
//
// During warm-up (step < warmup) the factor is step / warmup, so the first update has rate 0.
// Beyond `total` every schedule keeps its last value. Definitions as in
// transformers/optimization.py unless noted.
#pragma once

#include <cstdint>
#include <optional>

#include <tendril/core/api.h>

namespace tendril::optim {

struct ScheduleOptions {
  int64_t warmup = 0;
  int64_t total = 0;  // the step at which the schedule ends; unused by constant and inverse_sqrt
  double min_ratio = 0.0;  // the factor at the end, of linear, cosine and polynomial
};

/// 1
TENDRIL_API double constant(int64_t step, const ScheduleOptions& options = {});
/// From 1 at `warmup` straight to min_ratio at `total`.
TENDRIL_API double linear_decay(int64_t step, const ScheduleOptions& options);
/// min_ratio + (1 - min_ratio) (1 + cos(2 pi cycles p)) / 2, p the fraction of the way from warmup
/// to total: with half a cycle one fall.
TENDRIL_API double cosine(int64_t step, const ScheduleOptions& options, double cycles = 0.5);
/// `cycles` such half waves, each from 1 down to min_ratio.
TENDRIL_API double cosine_with_restarts(int64_t step, const ScheduleOptions& options,
                                        int64_t cycles = 1);
/// min_ratio + (1 - min_ratio) (1 - p)^power
TENDRIL_API double polynomial(int64_t step, const ScheduleOptions& options, double power = 1.0);
/// sqrt(scale / (step - warmup + scale)); scale 0 stands for warmup, or 10000 without warm-up.
TENDRIL_API double inverse_sqrt(int64_t step, const ScheduleOptions& options, double scale = 0.0);

struct EarlyCosineOptions {
  int64_t warmup = 0, total = 0;
  double min_ratio = 0.0;
  std::optional<double> start_ratio;  // the factor of the first update; unset: 1 / warmup
  double cycles = 0.5;
};
/// A cosine whose steps count from 1, so that no update has rate 0: warm-up (step + 1) / warmup, or
/// from start_ratio straight to 1 at the last step of warm-up, and then the cosine that is one step
/// ahead.
TENDRIL_API double early_cosine(int64_t step, const EarlyCosineOptions& options);
/// As in llm.c: warm-up (step + 1) / warmup, then 1, and over the last `decay_fraction` of all
/// steps min_ratio + (1 - sqrt(r)) (1 - min_ratio), r the fraction of that part.
TENDRIL_API double warmup_stable_decay(int64_t step, const ScheduleOptions& options,
                                       double decay_fraction = 0.2);

/// How a rate moves between 0 and 1: straight, along a cosine, or as the square root does, fast in
/// the beginning of a decay and at the end of a warm-up.
enum class Ramp { linear, cosine, one_minus_sqrt };

struct StableDecayOptions {
  int64_t warmup = 0, stable = 0, decay = 0;  // steps of the three parts
  Ramp warmup_ramp = Ramp::linear, decay_ramp = Ramp::cosine;
  double min_ratio = 0.0;  // the factor where the warm-up starts and where the decay ends
  double cycles = 0.5;     // of a cosine decay
};
/// Warm-up, 1, decay, and then min_ratio, with every part's length given (transformers' schedule).
TENDRIL_API double warmup_stable_decay(int64_t step, const StableDecayOptions& options);

}  // namespace tendril::optim
