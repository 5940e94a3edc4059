#include <tendril/nn/mlp.h>

namespace tendril::nn {

Op operation(Activation activation) {
  switch (activation) {
    case Activation::gelu:
      return Op::gelu;
    case Activation::gelu_tanh:
      return Op::gelu_tanh;
    case Activation::relu:
      return Op::relu;
    case Activation::silu:
    case Activation::swiglu:
      return Op::silu;
  }
  fail("[operation] invalid activation ", static_cast<int>(activation));
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
  FeedForwardWeights weights{up_.weight(), up_.bias(), down_.weight(), down_.bias()};
  if (gate_) weights.gate = gate_->weight(), weights.gate_bias = gate_->bias();
  return dropout_(feed_forward(x, weights, operation(activation_)));
}

}  // namespace tendril::nn
