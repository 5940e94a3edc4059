// Adafactor (Shazeer and Stern 2018), with transformers' formulas and defaults: the second moment
// of a matrix is kept as the means of its rows and columns.
#pragma once

#include <vector>

#include <tendril/optim/grouped.h>

namespace tendril::optim {

struct AdafactorOptions {
  double lr = 0.0;              // without relative_step, which makes the rate itself
  double eps_square = 1e-30;    // added to squared gradients
  double eps_scale = 1e-3;      // the least size that scale_parameter sees in a parameter
  double clip_threshold = 1.0;  // largest root mean square of an update
  double decay_rate = -0.8;     // the second moment decays by 1 - t^decay_rate
  double beta1 = 0.0;           // decay of the mean of updates; 0: none is kept
  double weight_decay = 0.0;    // decoupled
  bool scale_parameter = true;  // the rate is relative to the parameter's root mean square
  bool relative_step = true;    // the rate is min(1e-2, 1 / sqrt(t)) ...
  bool warmup_init = false;     // ... or min(1e-6 t, 1 / sqrt(t))
};

/// With t the step, b = 1 - t^decay_rate, s = g^2 + eps_square, means over rows R and columns C:
///   R = b R + (1 - b) mean_columns(s);  C = b C + (1 - b) mean_rows(s)
///   u = g / sqrt(R / mean(R)) / sqrt(C)          without two axes: V = b V + (1 - b) s, u = g /
///   sqrt(V) u = rate * u / max(1, rms(u) / clip_threshold);  with beta1: m = beta1 m + (1 - beta1)
///   u, for u p -= weight_decay * rate * p;  p -= u
/// Tensors of more than two axes are stacks of matrices. State: exp_avg_sq_row and exp_avg_sq_col,
/// or exp_avg_sq; exp_avg (with beta1); and master for 16-bit parameters, all f32 (f64 for f64
/// parameters).
class TENDRIL_API Adafactor : public Grouped<AdafactorOptions> {
 public:
  /// An optimizer without parameters; add groups.
  Adafactor() = default;
  explicit Adafactor(const std::vector<NamedTensor>& parameters,
                     const AdafactorOptions& options = {});
  explicit Adafactor(const std::vector<Tensor>& parameters, const AdafactorOptions& options = {});

 protected:
  void check(const AdafactorOptions& options) const override;
  void update(Slot& slot, const Tensor& gradient, double lr) override;
  std::vector<StateSpec> state_specs(const Slot& slot) const override;
};

}  // namespace tendril::optim
