// RMSprop (Tieleman and Hinton 2012), with PyTorch's formulas.
#pragma once

#include <span>
#include <vector>

#include <tendril/optim/grouped.h>

namespace tendril::optim {

struct RmsPropOptions {
  double lr = 1e-2;
  double alpha = 0.99;  // decay of the mean square, in [0, 1)
  double eps = 1e-8;
  double weight_decay = 0.0;  // L2: added to the gradient
  double momentum = 0.0;
  bool centered = false;  // divide by the deviation from the mean gradient
  bool maximize = false;
};

///   v = alpha v + (1 - alpha) g^2,  centered: minus the square of such a mean of g
///   p -= lr * g / (sqrt(v) + eps),  with momentum: buffer = momentum buffer + that quotient
/// State: square_avg, grad_avg (centered), momentum_buffer (with momentum), and master for 16-bit
/// parameters, all f32 (f64 for f64 parameters).
class TENDRIL_API RmsProp : public Grouped<RmsPropOptions> {
 public:
  /// An optimizer without parameters; add groups.
  RmsProp() = default;
  explicit RmsProp(const std::vector<NamedTensor>& parameters, const RmsPropOptions& options = {});
  explicit RmsProp(const std::vector<Tensor>& parameters, const RmsPropOptions& options = {});

 protected:
  void check(const RmsPropOptions& options) const override;
  void update_all(std::span<Slot* const> slots) override;
  bool can_be_gated() const override { return true; }
  std::vector<StateSpec> state_specs(const Slot& slot) const override;

 private:
  template <bool kCentered, bool kMomentum>
  void update_like(std::span<Slot* const> slots);
};

}  // namespace tendril::optim
