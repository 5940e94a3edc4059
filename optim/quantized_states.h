// What the optimizers with 8-bit states share: which parameters have them, and what they are.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include <tendril/optim/grouped.h>

namespace tendril::optim {

struct QuantizationOptions {
  int64_t min_size = 4096;  // smaller parameters keep f32 states
  /// Says by name which parameters keep f32 states whatever their size: embeddings should, where
  /// the rows of rare tokens would share a block with those of frequent ones.
  std::function<bool(const std::string& parameter)> keep_32bit = {};
};

/// An optimizer whose Options have `quantization`, stochastic_rounding and rounding_seed. A state
/// "exp_avg" of a quantised parameter is saved as exp_avg.codes (u8, of the parameter's shape) and
/// exp_avg.absmax (f32, one per 256 elements); see <tendril/core/ops/quantize_blockwise.h>.
template <class Options>
class TENDRIL_API QuantizedStates : public Grouped<Options> {
 protected:
  using Slot = Optimizer::Slot;
  using StateSpec = Optimizer::StateSpec;
  void check(const Options& options) const override;
  void update_all(std::span<Slot* const> slots) override;
  bool can_be_gated() const override { return true; }
  bool keeps_master(const Slot& slot) const override;
  std::vector<StateSpec> state_specs(const Slot& slot) const override;

 private:
  bool is_quantized(const Slot& slot) const;
};

}  // namespace tendril::optim
