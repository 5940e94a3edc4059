// LOMO (Lv et al. 2023, "Full Parameter Fine-tuning for Large Language Models with Limited
// Resources") and AdaLomo (Lv et al. 2024): updates during backward() that need no gradient but the
// one just computed, and little state or none.
//
//   optim::AdaLomo optimizer(model.named_parameters(), {.lr = 1e-3});
//   for (...) model.loss(tokens, targets).backward();   // that was the step
//
// Both have called update_in_backward() themselves; layerwise.h says what that means, and how to
// clip by value and by norm. Without masters a 16-bit parameter loses updates below half its
// spacing: f32 weights are better where there is room.
#pragma once

#include <vector>

#include <tendril/optim/adafactor.h>
#include <tendril/optim/grouped.h>

namespace tendril::optim {

struct LomoOptions {
  double lr = 1e-3;
  double weight_decay = 0.0;
};

/// p = p (1 - lr * weight_decay) - lr * g, in f32 (f64 for f64 parameters), rounded once. No
/// state.
class TENDRIL_API Lomo : public Grouped<LomoOptions> {
 public:
  /// An optimizer without parameters; add groups.
  Lomo() { update_in_backward(); }
  explicit Lomo(const std::vector<NamedTensor>& parameters, const LomoOptions& options = {});
  explicit Lomo(const std::vector<Tensor>& parameters, const LomoOptions& options = {});

 protected:
  void check(const LomoOptions& options) const override;
  void update(Slot& slot, const Tensor& gradient, double lr) override;
  std::vector<StateSpec> state_specs(const Slot& slot) const override;
  bool keeps_master(const Slot&) const override { return false; }
};

struct AdaLomoOptions {
  double lr = 1e-3;             // relative to the parameter's root mean square
  double eps_square = 1e-30;    // added to squared gradients
  double eps_scale = 1e-3;      // the least size that the rate sees in a parameter
  double clip_threshold = 1.0;  // largest root mean square of an update
  double decay_rate = -0.8;     // the second moment decays by 1 - t^decay_rate
  double weight_decay = 0.0;    // decoupled, with the relative rate
};

/// Adafactor (adafactor.h) with scale_parameter, without its own rates and means. State:
/// exp_avg_sq_row and exp_avg_sq_col, or exp_avg_sq, in f32 (f64 for f64 parameters).
class TENDRIL_API AdaLomo : public Grouped<AdaLomoOptions> {
 public:
  /// An optimizer without parameters; add groups.
  AdaLomo() { update_in_backward(); }
  explicit AdaLomo(const std::vector<NamedTensor>& parameters, const AdaLomoOptions& options = {});
  explicit AdaLomo(const std::vector<Tensor>& parameters, const AdaLomoOptions& options = {});

 protected:
  void check(const AdaLomoOptions& options) const override;
  void update(Slot& slot, const Tensor& gradient, double lr) override;
  std::vector<StateSpec> state_specs(const Slot& slot) const override;
  bool keeps_master(const Slot&) const override { return false; }
};

}  // namespace tendril::optim
