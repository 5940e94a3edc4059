// AdamW with its moments in 8 bits (Dettmers, Lewis, Shleifer, Zettlemoyer 2022, "8-bit Optimizers
// via Block-wise Quantization"): 2 bytes of state per parameter instead of 8.
#pragma once

#include <cstdint>
#include <vector>

#include <tendril/optim/quantized_states.h>

namespace tendril::optim {

struct TENDRIL_API AdamW8bitOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 1e-2;  // decoupled, after the step
  QuantizationOptions quantization = {};
  bool stochastic_rounding = false;  // bf16 parameters without f32 masters; see AdamWOptions
  uint64_t rounding_seed = 0;
};

/// With m and v dequantised, c1 = 1 - beta1^t, c2 = 1 - beta2^t:
///   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
///   p -= lr sqrt(c2) / c1 * m / (sqrt(v) + sqrt(c2) eps);  p -= lr weight_decay p
/// and then m (codes with sign) and v (without) are quantised. An element whose gradient is not
/// finite is left out, and its moments become 0. State: exp_avg and exp_avg_sq, quantised or f32;
/// f64 for f64 parameters; and master for 16-bit parameters.
class TENDRIL_API AdamW8bit : public QuantizedStates<AdamW8bitOptions> {
 public:
  /// An optimizer without parameters; add groups.
  AdamW8bit() = default;
  explicit AdamW8bit(const std::vector<NamedTensor>& parameters,
                     const AdamW8bitOptions& options = {});
  explicit AdamW8bit(const std::vector<Tensor>& parameters, const AdamW8bitOptions& options = {});
};

}  // namespace tendril::optim
