// Adagrad (Duchi, Hazan, Singer 2011), with PyTorch's formulas.
#pragma once

#include <span>
#include <vector>

#include <tendril/optim/grouped.h>

namespace tendril::optim {

struct AdagradOptions {
  double lr = 1e-2;
  double lr_decay = 0.0;      // the rate is lr / (1 + (step - 1) lr_decay), steps counted from 1
  double weight_decay = 0.0;  // L2: added to the gradient
  double initial_accumulator_value = 0.0;
  double eps = 1e-10;
  bool maximize = false;
};

///   sum += g^2;  p -= rate * g / (sqrt(sum) + eps)
/// State: sum, and master for 16-bit parameters, all f32 (f64 for f64 parameters).
class TENDRIL_API Adagrad : public Grouped<AdagradOptions> {
 public:
  /// An optimizer without parameters; add groups.
  Adagrad() = default;
  explicit Adagrad(const std::vector<NamedTensor>& parameters, const AdagradOptions& options = {});
  explicit Adagrad(const std::vector<Tensor>& parameters, const AdagradOptions& options = {});

 protected:
  void check(const AdagradOptions& options) const override;
  void update_all(std::span<Slot* const> slots) override;
  bool can_be_gated() const override { return true; }
  std::vector<StateSpec> state_specs(const Slot& slot) const override;
};

}  // namespace tendril::optim
