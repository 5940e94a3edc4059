// Private to optim: the schedule that lowers the rate when a metric stops improving.
#pragma once

#include <tendril/optim/lr_scheduler.h>

namespace tendril::optim {

struct PlateauOptions {
  bool maximize = false;  // mode "max": a larger metric is better
  bool relative = true;   // threshold_mode "rel": the threshold is a fraction of the best
  double factor = 0.1;
  double threshold = 1e-4;          // what a metric must be better by
  double min_lr = 0.0, eps = 1e-8;  // rates; a change of less than eps is not made
  int64_t patience = 10;            // observations without improvement that are endured
  int64_t cooldown = 0;             // observations after a change during which none counts as bad
};

/// PyTorch's rules. NaN is no improvement.
class ReduceLrOnPlateau : public LrScheduler {
 public:
  ReduceLrOnPlateau(double base_lr, const PlateauOptions& options);
  double factor(int64_t) const override { return lr_ / base_lr_; }
  void observe(double metric) override;
  bool needs_metric() const override { return true; }
  Json state() const override;
  void load_state(const Json& state) override;

 private:
  bool is_better(double metric) const;

  PlateauOptions options_;
  double base_lr_, lr_;
  double best_;  // infinitely bad before the first observation
  int64_t bad_ = 0, cooldown_left_ = 0;
};

}  // namespace tendril::optim
