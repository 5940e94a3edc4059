// Layers one after the other.
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <tendril/nn/module.h>

namespace tendril::nn {

/// A module with Tensor forward(const Tensor&).
template <class M>
concept Layer = std::derived_from<M, Module> && requires(M& layer, const Tensor& x) {
  { layer.forward(x) } -> std::convertible_to<Tensor>;
};

///   nn::Sequential net;
///   net.push<nn::Linear>(784, 256).push(relu).push<nn::Linear>(256, 10);
///
/// Children are named by their position, functions included: "0", "2".
class TENDRIL_API Sequential : public Module {
 public:
  using Function = std::function<Tensor(const Tensor&)>;

  /// Makes a layer in place.
  template <Layer M, class... Arguments>
  Sequential& push(Arguments&&... arguments) {
    return push(std::make_shared<M>(std::forward<Arguments>(arguments)...));
  }
  template <Layer M>
  Sequential& push(std::shared_ptr<M> layer) {
    add(std::to_string(steps_.size()), layer);
    steps_.push_back([layer = std::move(layer)](const Tensor& x) { return layer->forward(x); });
    return *this;
  }
  /// A plain function, e.g. relu.
  Sequential& push(Function function);

  size_t size() const { return steps_.size(); }
  /// The composition of all; the identity when empty.
  Tensor forward(const Tensor& x) const;
  Tensor operator()(const Tensor& x) const { return forward(x); }

 private:
  std::vector<Function> steps_;
};

}  // namespace tendril::nn
