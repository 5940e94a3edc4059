// GaLore with moments in 8 bits: what is small already takes a quarter of its room.
//
//   optim::GaloreAdamW8bit optimizer(rest, {.lr = 1e-2});
//   optimizer.add_param_group(matrices, {.lr = 1e-2, .projection = {{.rank = 128}}});
#pragma once

#include <optional>
#include <span>
#include <vector>

#include <tendril/optim/galore.h>
#include <tendril/optim/quantized_states.h>

namespace tendril::optim {

struct GaloreAdamW8bitOptions {
  double lr = 1e-2;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;              // decoupled, with the full rate, after the step
  QuantizationOptions quantization = {};  // min_size is of the moments: those of a projected
                                          // matrix are small
  std::optional<ProjectionOptions> projection = std::nullopt;
};

/// The inner rule is AdamW8bit's (adamw_8bit.h), on R where a matrix is projected; a group without
/// a projection is AdamW8bit. The basis stays in f32. State: exp_avg and exp_avg_sq, quantised as
/// QuantizedStates has them, or f32 where they have fewer than min_size elements; f64 for f64
/// parameters.
class TENDRIL_API GaloreAdamW8bit : public Galore {
 public:
  /// An optimizer without parameters; add groups.
  GaloreAdamW8bit() = default;
  explicit GaloreAdamW8bit(const std::vector<NamedTensor>& parameters,
                           const GaloreAdamW8bitOptions& options = {});
  explicit GaloreAdamW8bit(const std::vector<Tensor>& parameters,
                           const GaloreAdamW8bitOptions& options = {});
  void add_param_group(const std::vector<NamedTensor>& parameters,
                       const GaloreAdamW8bitOptions& options = {});

 protected:
  void update_all(std::span<Slot* const> slots) override;
  std::vector<StateSpec> inner_specs(const Slot& slot, const Shape& gradient) const override;
  Tensor inner_step(Slot& slot, const Tensor& gradient, const Tensor& value, double lr) override;
  Tensor next_value(const Slot& slot, const Tensor& value, const Tensor& change,
                    double lr) const override;

 private:
  struct Updates;
  bool is_quantized(const Slot& slot, const Shape& gradient) const;
  /// The rule's update of `parameter`, with the moments of the slot.
  void add_update(Updates& updates, Slot& slot, const Tensor& parameter, const Tensor& gradient,
                  const Tensor& master, double weight_decay);

  std::vector<GaloreAdamW8bitOptions> options_;  // one per group
};

}  // namespace tendril::optim
