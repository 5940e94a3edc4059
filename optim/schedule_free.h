// Schedule-free SGD and AdamW (Defazio et al. 2024, "The Road Less Scheduled"): instead of a
// falling rate an average of the iterates. Gradients are taken at y, between the iterate z and the
// average x; x is what is to be evaluated and saved.
//
//   optim::ScheduleFreeAdamW optimizer(model.named_parameters(), {.lr = 3e-3, .warmup_steps =
//   100}); for (...) {
//     optimizer.train();   // the parameters are y: for training
//     ...
//     optimizer.eval();    // the parameters are x: to evaluate, and to save the model
//   }
#pragma once

#include <span>
#include <vector>

#include <tendril/optim/grouped.h>

namespace tendril::optim {

struct TENDRIL_API ScheduleFreeAdamWOptions {
  double lr = 2.5e-3;
  double beta1 = 0.9;    // y = beta1 x + (1 - beta1) z; in (0, 1)
  double beta2 = 0.999;  // decay of the mean of squared gradients, in [0, 1)
  double eps = 1e-8;
  double weight_decay = 0.0;  // taken at y
  int64_t warmup_steps =
      0;           // over which the rate grows to lr, the first update having lr / warmup_steps
  double r = 0.0;  // update t weighs t^r ...
  double weight_lr_power = 2.0;  // ... times (largest rate so far)^weight_lr_power in the average
};

struct TENDRIL_API ScheduleFreeSgdOptions {
  double lr = 1.0;
  double momentum = 0.9;  // y = momentum x + (1 - momentum) z; in (0, 1)
  double weight_decay = 0.0;
  int64_t warmup_steps = 0;
  double r = 0.0;
  double weight_lr_power = 2.0;
};

/// What both share. With w the weight of this update and c = w / (sum of all weights):
///   d = g + weight_decay y                                  (AdamW: g / (sqrt(v / (1 - beta2^t)) +
///   eps) for g) y = y + c (z - y) - rate (1 - beta1 (1 - c)) d;  z = z - rate d
/// A new optimizer is in training mode. step() is an Error for a parameter that eval() has moved.
/// State: z, exp_avg_sq (AdamW), master for 16-bit parameters, all f32 (f64 for f64 parameters),
/// and the numbers lr_max, weight_sum, and train_mode, by which a state that was saved after eval()
/// is known. Moving to x and back rounds.
template <class Options>
class TENDRIL_API ScheduleFree : public Grouped<Options> {
 public:
  void train() override;
  void eval() override;

 protected:
  using Slot = Optimizer::Slot;
  using StateSpec = Optimizer::StateSpec;
  void check(const Options& options) const override;
  void update_all(std::span<Slot* const> slots) override;
  std::vector<StateSpec> state_specs(const Slot& slot) const override;
  std::vector<std::string> number_names(const Slot& slot) const override;

 private:
  void move(Slot& slot, bool train_mode);
};

class TENDRIL_API ScheduleFreeAdamW : public ScheduleFree<ScheduleFreeAdamWOptions> {
 public:
  /// An optimizer without parameters; add groups.
  ScheduleFreeAdamW() = default;
  explicit ScheduleFreeAdamW(const std::vector<NamedTensor>& parameters,
                             const ScheduleFreeAdamWOptions& options = {});
  explicit ScheduleFreeAdamW(const std::vector<Tensor>& parameters,
                             const ScheduleFreeAdamWOptions& options = {});
};

class TENDRIL_API ScheduleFreeSgd : public ScheduleFree<ScheduleFreeSgdOptions> {
 public:
  ScheduleFreeSgd() = default;
  explicit ScheduleFreeSgd(const std::vector<NamedTensor>& parameters,
                           const ScheduleFreeSgdOptions& options = {});
  explicit ScheduleFreeSgd(const std::vector<Tensor>& parameters,
                           const ScheduleFreeSgdOptions& options = {});
};

}  // namespace tendril::optim
