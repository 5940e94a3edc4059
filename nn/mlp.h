// The feed-forward part of a transformer block.
#pragma once

#include <memory>
#include <string>

#include <tendril/nn/dropout.h>
#include <tendril/nn/linear.h>

namespace tendril::nn {

/// gelu is exact (erf); gelu_tanh its tanh approximation (Hendrycks and Gimpel 2016); swiglu is the
/// gated silu(gate(x)) * up(x) (Shazeer 2020).
enum class Activation { gelu, gelu_tanh, silu, relu, swiglu };

/// The unary operation: for swiglu that of the gate, silu.
TENDRIL_API Op operation(Activation activation);

struct MlpOptions {
  Activation activation = Activation::gelu;
  bool bias = true;
  double dropout = 0.0;  // on the result
  DType dtype = f32;
};

/// down(activation(up(x))), or down(silu(gate(x)) * up(x)): x (..., channels) -> the same shape,
/// through (..., hidden); see feed_forward(). Children: up, gate (swiglu only), down.
class TENDRIL_API Mlp : public Module {
 public:
  Mlp(int64_t channels, int64_t hidden, const MlpOptions& options = {});

  Tensor forward(const Tensor& x) const;
  Tensor operator()(const Tensor& x) const { return forward(x); }

 private:
  Activation activation_;
  Linear up_;
  std::shared_ptr<Linear> gate_;
  Linear down_;
  Dropout dropout_;
};

}  // namespace tendril::nn
