// Learning-rate schedules by the names of the Hugging Face Trainer. The formulas are those of
// <tendril/optim/schedule.h>, for programs that choose a schedule at compile time.
//
//   auto scheduler = optim::make_lr_scheduler("cosine", {.num_warmup_steps = 100,
//   .num_training_steps = 5000}); optimizer.scale_lr(scheduler->factor(step));
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include <tendril/core/api.h>
#include <tendril/core/json.h>

namespace tendril::optim {

class TENDRIL_API LrScheduler {
 public:
  virtual ~LrScheduler();
  /// The factor of each group's base rate for update number `step` (0 for the first): a pure
  /// function of step and of what observe() saw.
  virtual double factor(int64_t step) const = 0;
  /// A metric, after an evaluation; only reduce_lr_on_plateau listens.
  virtual void observe(double metric);
  virtual bool needs_metric() const { return false; }
  /// What factor() depends on besides the step; load_state() is an Error for anything else.
  virtual Json state() const { return Json::object(); }
  virtual void load_state(const Json& state);
};

struct LrSchedulerOptions {
  int64_t num_warmup_steps = 0;
  int64_t num_training_steps = 0;
  double base_lr = 0;  // polynomial, min_lr and reduce_lr_on_plateau relate absolute rates to it
  Json kwargs = {};    // an object with the schedule's own options, or null
};

/// The schedule of this name; warm-up is step / num_warmup_steps unless said otherwise, and beyond
/// num_training_steps every schedule keeps its last value.
///
/// - linear, cosine (num_cycles 0.5), cosine_with_restarts (num_cycles 1): from 1 to 0.
/// - polynomial: to the rate lr_end, 1e-7, with power 1.
/// - constant: 1 from the first update, without warm-up whatever num_warmup_steps says.
/// - constant_with_warmup.
/// - inverse_sqrt: timescale, unless given num_warmup_steps or 10000.
/// - cosine_with_min_lr: to the rate min_lr or to the factor min_lr_rate; num_cycles 0.5.
/// - cosine_warmup_with_min_lr: the same with step + 1 for step; the first factor may be
///   warmup_lr_rate.
/// - warmup_stable_decay: num_decay_steps; num_stable_steps, unless given what num_training_steps
///   leaves; warmup_type linear and decay_type cosine, of linear, cosine and 1-sqrt; min_lr_ratio
///   0, where warm-up starts and decay ends; num_cycles 0.5.
/// - reduce_lr_on_plateau: 1 without warm-up, lowered whenever the metric stops improving, by
///   PyTorch's rules: mode min (or max), factor 0.1, patience 10, threshold 1e-4, threshold_mode
///   rel (or abs), cooldown 0, min_lr 0, eps 1e-8.
///
/// Error for an unknown name (with the known ones), for an option that the schedule does not take
/// (with those it takes), for one that is missing and for one out of range.
TENDRIL_API std::unique_ptr<LrScheduler> make_lr_scheduler(std::string_view name,
                                                           const LrSchedulerOptions& options);

}  // namespace tendril::optim
