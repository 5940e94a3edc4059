#include <tendril/core/error.h>
#include <tendril/optim/lr_scheduler.h>
#include <tendril/optim/reduce_lr_on_plateau.h>
#include <tendril/optim/schedule.h>
#include <tendril/optim/schedule_kwargs.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace tendril::optim {
namespace {

using Function = std::function<double(int64_t)>;
using Options = LrSchedulerOptions;

// A schedule without state.
class FunctionScheduler : public LrScheduler {
 public:
  explicit FunctionScheduler(Function function) : function_(std::move(function)) {}
  double factor(int64_t step) const override { return function_(step); }

 private:
  Function function_;
};

ScheduleOptions plain(const Options& o, double min_ratio = 0.0) {
  return {o.num_warmup_steps, o.num_training_steps, min_ratio};
}

// A rate as a factor of the base rate.
double ratio_of(const char* schedule, const char* what, double rate, double base_lr) {
  TENDRIL_CHECK(base_lr > 0.0, "[lr_scheduler] ", schedule, " needs base_lr to turn ", what,
                " into a factor; got ", base_lr);
  TENDRIL_CHECK(rate >= 0.0 && rate < base_lr, "[lr_scheduler] ", schedule, ": ", what,
                " must be below the learning rate, ", base_lr, "; got ", rate);
  return rate / base_lr;
}

Function linear_schedule(const Options& o, const ScheduleKwargs&) {
  return [s = plain(o)](int64_t step) { return linear_decay(step, s); };
}

Function cosine_schedule(const Options& o, const ScheduleKwargs& kwargs) {
  return [s = plain(o), cycles = kwargs.number("num_cycles", 0.5)](int64_t step) {
    return cosine(step, s, cycles);
  };
}

Function restarts_schedule(const Options& o, const ScheduleKwargs& kwargs) {
  return [s = plain(o), cycles = kwargs.integer("num_cycles", 1)](int64_t step) {
    return cosine_with_restarts(step, s, cycles);
  };
}

Function polynomial_schedule(const Options& o, const ScheduleKwargs& kwargs) {
  const double end = ratio_of("polynomial", "lr_end", kwargs.number("lr_end", 1e-7), o.base_lr);
  return [s = plain(o, end), power = kwargs.number("power", 1.0)](int64_t step) {
    return polynomial(step, s, power);
  };
}

Function constant_schedule(const Options&, const ScheduleKwargs&) {
  return [](int64_t step) { return constant(step); };
}

Function warmup_schedule(const Options& o, const ScheduleKwargs&) {
  return [s = plain(o)](int64_t step) { return constant(step, s); };
}

Function inverse_sqrt_schedule(const Options& o, const ScheduleKwargs& kwargs) {
  return [s = plain(o), scale = kwargs.number("timescale", 0.0)](int64_t step) {
    return inverse_sqrt(step, s, scale);
  };
}

// Exactly one of min_lr and min_lr_rate must be given.
double minimum_ratio(const char* schedule, const Options& o, const ScheduleKwargs& kwargs) {
  TENDRIL_CHECK(kwargs.has("min_lr") != kwargs.has("min_lr_rate"), "[lr_scheduler] ", schedule,
                " needs either min_lr or min_lr_rate; got ",
                kwargs.has("min_lr") ? "both" : "neither");
  if (kwargs.has("min_lr_rate")) return kwargs.number("min_lr_rate", 0.0);
  return ratio_of(schedule, "min_lr", kwargs.number("min_lr", 0.0), o.base_lr);
}

Function min_lr_schedule(const Options& o, const ScheduleKwargs& kwargs) {
  const double minimum = minimum_ratio("cosine_with_min_lr", o, kwargs);
  return [s = plain(o, minimum), cycles = kwargs.number("num_cycles", 0.5)](int64_t step) {
    return cosine(step, s, cycles);
  };
}

Function early_min_lr_schedule(const Options& o, const ScheduleKwargs& kwargs) {
  EarlyCosineOptions s = {.warmup = o.num_warmup_steps,
                          .total = o.num_training_steps,
                          .min_ratio = minimum_ratio("cosine_warmup_with_min_lr", o, kwargs),
                          .start_ratio = std::nullopt,
                          .cycles = kwargs.number("num_cycles", 0.5)};
  if (kwargs.has("warmup_lr_rate")) s.start_ratio = kwargs.number("warmup_lr_rate", 0.0);
  return [s](int64_t step) { return early_cosine(step, s); };
}

Function stable_decay_schedule(const Options& o, const ScheduleKwargs& kwargs) {
  TENDRIL_CHECK(
      kwargs.has("num_decay_steps"),
      "[lr_scheduler] warmup_stable_decay needs num_decay_steps, the length of the decay");
  TENDRIL_CHECK(o.num_training_steps > 0 || kwargs.has("num_stable_steps"),
                "[lr_scheduler] warmup_stable_decay needs num_training_steps or num_stable_steps");
  TENDRIL_CHECK(kwargs.integer("num_stable_steps", 0) >= 0,
                "[lr_scheduler] warmup_stable_decay: num_stable_steps must not be negative; got ",
                kwargs.integer("num_stable_steps", 0));
  const auto ramp = [&](const char* key, const char* fallback) {
    constexpr Ramp kRamps[] = {Ramp::linear, Ramp::cosine, Ramp::one_minus_sqrt};
    return kRamps[kwargs.choice(key, {"linear", "cosine", "1-sqrt"}, fallback)];
  };
  const int64_t decay = kwargs.integer("num_decay_steps", 0);
  const int64_t rest = o.num_training_steps - o.num_warmup_steps - decay;
  const StableDecayOptions s = {.warmup = o.num_warmup_steps,
                                .stable = kwargs.integer("num_stable_steps", rest),
                                .decay = decay,
                                .warmup_ramp = ramp("warmup_type", "linear"),
                                .decay_ramp = ramp("decay_type", "cosine"),
                                .min_ratio = kwargs.number("min_lr_ratio", 0.0),
                                .cycles = kwargs.number("num_cycles", 0.5)};
  return [s](int64_t step) { return warmup_stable_decay(step, s); };
}

struct Row {
  std::string_view name;
  std::vector<std::string_view> kwargs;
  Function (*build)(const Options&, const ScheduleKwargs&);  // null: reduce_lr_on_plateau
};

const std::vector<Row>& rows() {
  static const std::vector<Row> kRows = {
      {"linear", {}, linear_schedule},
      {"cosine", {"num_cycles"}, cosine_schedule},
      {"cosine_with_restarts", {"num_cycles"}, restarts_schedule},
      {"polynomial", {"lr_end", "power"}, polynomial_schedule},
      {"constant", {}, constant_schedule},
      {"constant_with_warmup", {}, warmup_schedule},
      {"inverse_sqrt", {"timescale"}, inverse_sqrt_schedule},
      {"reduce_lr_on_plateau",
       {"mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps"},
       nullptr},
      {"cosine_with_min_lr", {"num_cycles", "min_lr", "min_lr_rate"}, min_lr_schedule},
      {"cosine_warmup_with_min_lr",
       {"num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"},
       early_min_lr_schedule},
      {"warmup_stable_decay",
       {"num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio",
        "num_cycles"},
       stable_decay_schedule}};
  return kRows;
}

std::unique_ptr<LrScheduler> plateau(const Options& o, const ScheduleKwargs& kwargs) {
  const PlateauOptions standard;
  return std::make_unique<ReduceLrOnPlateau>(
      o.base_lr,
      PlateauOptions{.maximize = kwargs.choice("mode", {"min", "max"}, "min") == 1,
                     .relative = kwargs.choice("threshold_mode", {"rel", "abs"}, "rel") == 0,
                     .factor = kwargs.number("factor", standard.factor),
                     .threshold = kwargs.number("threshold", standard.threshold),
                     .min_lr = kwargs.number("min_lr", standard.min_lr),
                     .eps = kwargs.number("eps", standard.eps),
                     .patience = kwargs.integer("patience", standard.patience),
                     .cooldown = kwargs.integer("cooldown", standard.cooldown)});
}

}  // namespace

LrScheduler::~LrScheduler() = default;

void LrScheduler::observe(double) {}

void LrScheduler::load_state(const Json& state) {
  TENDRIL_CHECK(state.is_object() && state.members().empty(),
                "[load_state] this schedule has no state; got ", state.dump());
}

std::unique_ptr<LrScheduler> make_lr_scheduler(std::string_view name,
                                               const LrSchedulerOptions& options) {
  std::string names;
  for (const Row& row : rows()) {
    names.append(names.empty() ? "" : ", ").append(row.name);
    if (row.name != name) continue;
    TENDRIL_CHECK(options.num_warmup_steps >= 0 && options.num_training_steps >= 0,
                  "[lr_scheduler] steps must not be negative; got num_warmup_steps ",
                  options.num_warmup_steps, ", num_training_steps ", options.num_training_steps);
    const ScheduleKwargs kwargs(name, options.kwargs, row.kwargs);
    if (!row.build) return plateau(options, kwargs);
    auto scheduler = std::make_unique<FunctionScheduler>(row.build(options, kwargs));
    static_cast<void>(
        scheduler->factor(0));  // options out of range are an Error here, not at a step
    return scheduler;
  }
  fail("[lr_scheduler] there is no schedule \"", name, "\"; there are ", names);
}

}  // namespace tendril::optim
