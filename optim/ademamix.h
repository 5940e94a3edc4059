// AdEMAMix (Pagliardini, Ablin and Grangier 2024): Adam with a second, very slow mean.
#pragma once

#include <span>
#include <vector>

#include <tendril/optim/grouped.h>

namespace tendril::optim {

struct AdEmaMixOptions {
  double lr = 1e-3;
  double beta1 = 0.9;     // decay of the fast mean of gradients, in [0, 1)
  double beta2 = 0.999;   // of their squares
  double beta3 = 0.9999;  // of the slow mean
  double alpha = 5.0;     // weight of the slow mean
  double eps = 1e-8;
  double weight_decay = 1e-2;  // decoupled
  // Updates over which alpha grows from 0, and beta3 from beta1; 0: they are what they are at once.
  int64_t t_alpha = 0;
  int64_t t_beta3 = 0;
};

///   m1 = beta1 m1 + (1 - beta1) g;  m2 = beta3 m2 + (1 - beta3) g;  v = beta2 v + (1 - beta2) g^2
///   p -= lr * ((m1 / (1 - beta1^t) + alpha m2) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay p)
/// State: exp_avg_fast, exp_avg_slow, exp_avg_sq, and master for 16-bit parameters, all f32 (f64
/// for f64 parameters).
class TENDRIL_API AdEmaMix : public Grouped<AdEmaMixOptions> {
 public:
  /// An optimizer without parameters; add groups.
  AdEmaMix() = default;
  explicit AdEmaMix(const std::vector<NamedTensor>& parameters,
                    const AdEmaMixOptions& options = {});
  explicit AdEmaMix(const std::vector<Tensor>& parameters, const AdEmaMixOptions& options = {});

 protected:
  void check(const AdEmaMixOptions& options) const override;
  void update_all(std::span<Slot* const> slots) override;
  bool can_be_gated() const override { return true; }
  std::vector<StateSpec> state_specs(const Slot& slot) const override;
};

}  // namespace tendril::optim
