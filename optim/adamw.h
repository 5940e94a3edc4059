// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), with PyTorch's formulas and
// order of operations.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <tendril/optim/grouped.h>

namespace tendril::optim {

struct TENDRIL_API AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9;    // decay of the mean of gradients, in [0, 1)
  double beta2 = 0.999;  // and of their squares
  double eps = 1e-8;
  double weight_decay = 1e-2;  // decoupled: the parameter shrinks by lr * weight_decay of itself
  bool amsgrad = false;
  bool maximize = false;
  /// bf16 parameters have no f32 master: new values are rounded up or down at random, right on
  /// average. Saves 4 bytes per parameter.
  bool stochastic_rounding = false;
  uint64_t rounding_seed = 0;
};

struct TENDRIL_API AdamOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;  // L2: added to the gradient
  bool amsgrad = false;
  bool maximize = false;
};

/// What Adam and AdamW share: all but the kind of weight decay.
template <class Options>
class TENDRIL_API AdamFamily : public Grouped<Options> {
 protected:
  using Slot = Optimizer::Slot;
  using StateSpec = Optimizer::StateSpec;
  void check(const Options& options) const override;
  void update_all(std::span<Slot* const> slots) override;
  bool can_be_gated() const override { return true; }
  bool keeps_master(const Slot& slot) const override;
  std::vector<StateSpec> state_specs(const Slot& slot) const override;
};

/// The formulas stand in <tendril/core/ops/optimizer_step.h>. State: exp_avg, exp_avg_sq,
/// max_exp_avg_sq (AMSGrad) and for 16-bit parameters (unless stochastic_rounding) master, all f32
/// (f64 for f64 parameters).
class TENDRIL_API AdamW : public AdamFamily<AdamWOptions> {
 public:
  /// An optimizer without parameters; add groups.
  AdamW() = default;
  explicit AdamW(const std::vector<NamedTensor>& parameters, const AdamWOptions& options = {});
  explicit AdamW(const std::vector<Tensor>& parameters, const AdamWOptions& options = {});
};

/// The same, with weight decay as part of the gradient.
class TENDRIL_API Adam : public AdamFamily<AdamOptions> {
 public:
  Adam() = default;
  explicit Adam(const std::vector<NamedTensor>& parameters, const AdamOptions& options = {});
  explicit Adam(const std::vector<Tensor>& parameters, const AdamOptions& options = {});
};

}  // namespace tendril::optim
