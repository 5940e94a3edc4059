#include <tendril/core/error.h>
#include <tendril/optim/reduce_lr_on_plateau.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace tendril::optim {
namespace {

double worst(bool maximize) {
  const double infinity = std::numeric_limits<double>::infinity();
  return maximize ? -infinity : infinity;
}

}  // namespace

ReduceLrOnPlateau::ReduceLrOnPlateau(double base_lr, const PlateauOptions& options)
    : options_(options), base_lr_(base_lr), lr_(base_lr), best_(worst(options.maximize)) {
  const auto& o = options;
  TENDRIL_CHECK(base_lr > 0.0, "[lr_scheduler] reduce_lr_on_plateau needs base_lr; got ", base_lr);
  TENDRIL_CHECK(o.factor >= 0.0 && o.factor < 1.0,
                "[lr_scheduler] reduce_lr_on_plateau: factor must be in [0, 1); got ", o.factor);
  TENDRIL_CHECK(
      o.patience >= 0 && o.cooldown >= 0 && o.min_lr >= 0.0 && o.eps >= 0.0,
      "[lr_scheduler] reduce_lr_on_plateau: patience, cooldown, min_lr and eps must not be "
      "negative; got ",
      o.patience, ", ", o.cooldown, ", ", o.min_lr, " and ", o.eps);
}

bool ReduceLrOnPlateau::is_better(double metric) const {
  const double sign = options_.maximize ? 1.0 : -1.0;
  const double limit = options_.relative ? best_ * (1.0 + sign * options_.threshold)
                                         : best_ + sign * options_.threshold;
  return options_.maximize ? metric > limit : metric < limit;
}

void ReduceLrOnPlateau::observe(double metric) {
  if (is_better(metric)) {
    best_ = metric;
    bad_ = 0;
  } else {
    ++bad_;
  }
  if (cooldown_left_ > 0) {
    --cooldown_left_;
    bad_ = 0;
  }
  if (bad_ <= options_.patience) return;
  const double lower = std::max(lr_ * options_.factor, options_.min_lr);
  if (lr_ - lower > options_.eps) lr_ = lower;
  cooldown_left_ = options_.cooldown;
  bad_ = 0;
}

Json ReduceLrOnPlateau::state() const {
  Json state = Json::object();
  state.set("lr", lr_);
  state.set("best", std::isfinite(best_) ? Json(best_) : Json());  // JSON has no infinity
  state.set("num_bad_epochs", bad_);
  state.set("cooldown_counter", cooldown_left_);
  return state;
}

void ReduceLrOnPlateau::load_state(const Json& state) {
  const double lr = state.at("lr").as_double();
  const Json& best = state.at("best");
  const double best_metric = best.is_null() ? worst(options_.maximize) : best.as_double();
  const int64_t bad = state.at("num_bad_epochs").as_int();
  const int64_t cooldown = state.at("cooldown_counter").as_int();
  TENDRIL_CHECK(lr >= 0.0 && bad >= 0 && cooldown >= 0,
                "[load_state] a state of reduce_lr_on_plateau has no negative numbers but the best "
                "metric; got ",
                state.dump());
  lr_ = lr;
  best_ = best_metric;
  bad_ = bad;
  cooldown_left_ = cooldown;
}

}  // namespace tendril::optim
