// AdamW (Loshchilov and Hutter 2019), with PyTorch's formulas and order of operations.
#pragma once

#include <span>
#include <vector>

#include <tendril/optim/optimizer.h>

namespace tendril::optim {

struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9;    // decay of the mean of gradients, in [0, 1)
  double beta2 = 0.999;  // and of their squares
  double eps = 1e-8;
  double weight_decay = 1e-2;  // decoupled: the parameter shrinks by lr * weight_decay of itself
  bool amsgrad = false;
  bool maximize = false;
};

/// The formulas stand in <tendril/core/ops/optimizer_step.h>. State: exp_avg, exp_avg_sq,
/// max_exp_avg_sq (AMSGrad) and for 16-bit parameters master, all f32 (f64 for f64 parameters).
class TENDRIL_API AdamW : public Optimizer {
 public:
  /// An optimizer without parameters; add groups.
  AdamW() = default;
  explicit AdamW(const std::vector<NamedTensor>& parameters, const AdamWOptions& options = {});
  explicit AdamW(const std::vector<Tensor>& parameters, const AdamWOptions& options = {});

  /// Error for options out of range, and see Optimizer::register_group.
  void add_param_group(const std::vector<NamedTensor>& parameters,
                       const AdamWOptions& options = {});

 protected:
  void update_all(std::span<Slot* const> slots) override;
  std::vector<std::string> state_names(size_t group) const override;

 private:
  std::vector<AdamWOptions> options_;  // one per group
};

}  // namespace tendril::optim
