// StableAdamW (Wortsman et al. 2023): AdamW whose rate shrinks for a tensor whose gradient is
// larger than the second moment expects, as Adafactor clips updates.
#pragma once

#include <optional>
#include <vector>

#include <tendril/optim/grouped.h>

namespace tendril::optim {

struct StableAdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9;   // decay of the mean of gradients, in [0, 1)
  double beta2 = 0.99;  // and of their squares
  double eps = 1e-6;
  double weight_decay = 1e-2;
  // Decay by rate / max_lr * weight_decay instead of rate * weight_decay.
  bool decouple_lr = false;
  std::optional<double> max_lr = {};  // unset: lr
};

/// With t the step and b = beta (1 - beta^(t-1)) / (1 - beta^t), a decay that needs no correction:
///   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
///   rate = lr / max(1, sqrt(mean(g^2 / max(v, eps^2))))
///   p -= rate * weight_decay * p;  p -= rate * m / (sqrt(v) + eps)
/// State: exp_avg, exp_avg_sq, and master for 16-bit parameters, all f32 (f64 for f64 parameters).
class TENDRIL_API StableAdamW : public Grouped<StableAdamWOptions> {
 public:
  /// An optimizer without parameters; add groups.
  StableAdamW() = default;
  explicit StableAdamW(const std::vector<NamedTensor>& parameters,
                       const StableAdamWOptions& options = {});
  explicit StableAdamW(const std::vector<Tensor>& parameters,
                       const StableAdamWOptions& options = {});

 protected:
  void check(const StableAdamWOptions& options) const override;
  void update(Slot& slot, const Tensor& gradient, double lr) override;
  std::vector<StateSpec> state_specs(const Slot& slot) const override;
};

}  // namespace tendril::optim
