// Learning-rate schedules: pure functions from the step (0 for the first update) to a factor of the
// base rate. Nothing has to be stored or replayed to resume; see Optimizer::scale_lr.
//
// During warm-up (step < warmup) the factor is step / warmup, so the first update has rate 0.
// Beyond `total` every schedule keeps its last value. Definitions as in
// transformers/optimization.py unless noted.
#pragma once

#include <cstdint>

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
/// min_ratio + (1 - min_ratio) (1 + cos(pi p)) / 2, p the fraction of the way from warmup to total.
TENDRIL_API double cosine(int64_t step, const ScheduleOptions& options);
/// `cycles` such half waves, each from 1 down to min_ratio.
TENDRIL_API double cosine_with_restarts(int64_t step, const ScheduleOptions& options,
                                        int64_t cycles = 1);
/// min_ratio + (1 - min_ratio) (1 - p)^power
TENDRIL_API double polynomial(int64_t step, const ScheduleOptions& options, double power = 1.0);
/// sqrt(scale / (step - warmup + scale)), scale = warmup, or 10000 without warm-up.
TENDRIL_API double inverse_sqrt(int64_t step, const ScheduleOptions& options);
/// As in llm.c: warm-up (step + 1) / warmup, then 1, and over the last `decay_fraction` of all
/// steps min_ratio + (1 - sqrt(r)) (1 - min_ratio), r the fraction of that part.
TENDRIL_API double warmup_stable_decay(int64_t step, const ScheduleOptions& options,
                                       double decay_fraction = 0.2);

}  // namespace tendril::optim
