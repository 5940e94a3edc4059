// Stochastic gradient descent with momentum (Sutskever et al. 2013), with PyTorch's formulas.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <tendril/optim/grouped.h>

namespace tendril::optim {

struct SgdOptions {
  double lr = 1e-3;
  double momentum = 0.0;
  double dampening = 0.0;  // of new gradients in the momentum buffer; not applied at the first step
  double weight_decay = 0.0;  // L2: added to the gradient
  bool nesterov = false;      // needs momentum and no dampening
  bool maximize = false;
  bool stochastic_rounding = false;  // bf16 parameters without f32 masters; see AdamWOptions
  uint64_t rounding_seed = 0;
};

/// The formulas stand in <tendril/core/ops/optimizer_step.h>. State: momentum_buffer (with
/// momentum), and master for 16-bit parameters (unless stochastic_rounding), all f32 (f64 for f64
/// parameters).
class TENDRIL_API Sgd : public Grouped<SgdOptions> {
 public:
  /// An optimizer without parameters; add groups.
  Sgd() = default;
  explicit Sgd(const std::vector<NamedTensor>& parameters, const SgdOptions& options = {});
  explicit Sgd(const std::vector<Tensor>& parameters, const SgdOptions& options = {});

 protected:
  void check(const SgdOptions& options) const override;
  void update_all(std::span<Slot* const> slots) override;
  bool can_be_gated() const override { return true; }
  bool keeps_master(const Slot& slot) const override;
  std::vector<StateSpec> state_specs(const Slot& slot) const override;
};

}  // namespace tendril::optim
