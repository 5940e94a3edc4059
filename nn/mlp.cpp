#include <tendril/nn/mlp.h>

namespace tendril::nn {

Tensor activate(const Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::gelu:
      return gelu(x);
    case Activation::gelu_tanh:
      return gelu_tanh(x);
    case Activation::silu:
      return silu(x);
    case Activation::relu:
      return relu(x);
    case Activation::swiglu:
      break;
  }
  fail(
      "[activate] needs a pointwise activation; got swiglu, which is a gate on two operands; use "
      "nn::Mlp");
}

Mlp::Mlp(int64_t channels, int64_t hidden, const MlpOptions& options)
    : activation_(options.activation),
      up_(channels, hidden, {.bias = options.bias, .dtype = options.dtype}),
      down_(hidden, channels, {.bias = options.bias, .dtype = options.dtype}),
      dropout_(options.dropout) {
  add("up", up_);
  if (activation_ == Activation::swiglu) {
    gate_ = std::make_shared<Linear>(channels, hidden,
                                     LinearOptions{.bias = options.bias, .dtype = options.dtype});
    add("gate", gate_);
  }
  add("down", down_);
  add("dropout", dropout_);
}

Tensor Mlp::forward(const Tensor& x) const {
  const Tensor hidden = gate_ ? silu(gate_->forward(x)) * up_(x) : activate(up_(x), activation_);
  return dropout_(down_(hidden));
}

}  // namespace tendril::nn
