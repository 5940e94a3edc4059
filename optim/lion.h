// Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms").
#pragma once

#include <span>
#include <vector>

#include <tendril/optim/grouped.h>

namespace tendril::optim {

struct LionOptions {
  double lr = 1e-4;           // 3 to 10 times smaller than AdamW's
  double beta1 = 0.9;         // weight of the mean in the direction, in [0, 1)
  double beta2 = 0.99;        // decay of the mean
  double weight_decay = 0.0;  // decoupled; 3 to 10 times larger than AdamW's
};

///   p -= lr * weight_decay * p;  p -= lr * sign(beta1 m + (1 - beta1) g)
///   m = beta2 m + (1 - beta2) g
/// State: exp_avg, and master for 16-bit parameters, all f32 (f64 for f64 parameters).
class TENDRIL_API Lion : public Grouped<LionOptions> {
 public:
  /// An optimizer without parameters; add groups.
  Lion() = default;
  explicit Lion(const std::vector<NamedTensor>& parameters, const LionOptions& options = {});
  explicit Lion(const std::vector<Tensor>& parameters, const LionOptions& options = {});

 protected:
  void check(const LionOptions& options) const override;
  void update_all(std::span<Slot* const> slots) override;
  bool can_be_gated() const override { return true; }
  std::vector<StateSpec> state_specs(const Slot& slot) const override;
};

}  // namespace tendril::optim
