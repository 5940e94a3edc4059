// Lion with its mean in 8 bits: 1 byte of state per parameter.
#pragma once

#include <cstdint>
#include <vector>

#include <tendril/optim/quantized_states.h>

namespace tendril::optim {

struct TENDRIL_API Lion8bitOptions {
  double lr = 1e-4;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double weight_decay = 0.0;  // decoupled
  QuantizationOptions quantization = {};
  bool stochastic_rounding = false;  // bf16 parameters without f32 masters; see AdamWOptions
  uint64_t rounding_seed = 0;
};

/// The formulas of Lion (lion.h); the mean is quantised after each step. State: exp_avg, quantised
/// or f32 (f64 for f64 parameters), and master for 16-bit parameters.
class TENDRIL_API Lion8bit : public QuantizedStates<Lion8bitOptions> {
 public:
  /// An optimizer without parameters; add groups.
  Lion8bit() = default;
  explicit Lion8bit(const std::vector<NamedTensor>& parameters,
                    const Lion8bitOptions& options = {});
  explicit Lion8bit(const std::vector<Tensor>& parameters, const Lion8bitOptions& options = {});
};

}  // namespace tendril::optim
