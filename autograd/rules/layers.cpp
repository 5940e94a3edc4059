// The layers' functions and their tape rules; the mathematics is in core/ops.

#include <array>

#include <tendril/autograd/autocast.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dropout.h>
#include <tendril/core/ops/embedding.h>
#include <tendril/core/ops/feed_forward.h>
#include <tendril/core/ops/flops.h>
#include <tendril/core/ops/norm_layers.h>
#include <tendril/core/ops/rotary.h>
#include <tendril/core/ops/softmax.h>

namespace tendril {
namespace {

// Of x and the weights in their order.
template <class Inputs>
FeedForwardWeights weights_of(const Inputs& inputs) {
  return {inputs[1], inputs[2], inputs[3], inputs[4], inputs[5], inputs[6]};
}

}  // namespace

Tensor feed_forward(const Tensor& x, const FeedForwardWeights& w, Op activation) {
  const std::vector<Tensor> inputs = {x, w.up, w.up_bias, w.down, w.down_bias, w.gate, w.gate_bias};
  const OpTimer timer;
  const auto used =
      detail::autocast_narrow(x, w.up, w.up_bias, w.down, w.down_bias, w.gate, w.gate_bias);
  const ops::FeedForwardResult result =
      ops::feed_forward(used[0], weights_of(used), activation, detail::should_record(inputs));
  timer.flops([&] { return ops::feed_forward_flops(x, w); });
  std::vector<Saved> saved;
  if (result.sums.defined())
    for (const Tensor& input : used) saved.emplace_back(input);
  std::vector<DType> dtypes;
  for (const Tensor& input : inputs) dtypes.push_back(input.defined() ? input.dtype() : f32);
  // Rounded operands still give their inputs gradients from sums in f32.
  const auto sums =
      autocast_dtype() ? std::optional(accumulate_dtype(result.output.dtype())) : std::nullopt;
  return record(Op::feed_forward, result.output, inputs,
                [saved = std::move(saved), dtypes = std::move(dtypes), sums, u = Saved(result.sums),
                 z = Saved(result.gate_sums), activation](const Tensor& g, Gradients& in) {
                  const ops::FeedForwardGradients d = ops::feed_forward_backward(
                      g, saved[0], weights_of(saved), {{}, u, z}, activation,
                      {in.needs(0), in.needs(1), in.needs(2), in.needs(3), in.needs(4), in.needs(5),
                       in.needs(6), sums});
                  const Tensor* gradients[] = {&d.x,
                                               &d.weights.up,
                                               &d.weights.up_bias,
                                               &d.weights.down,
                                               &d.weights.down_bias,
                                               &d.weights.gate,
                                               &d.weights.gate_bias};
                  for (size_t i = 0; i < 7; ++i)
                    if (in.needs(i)) in.set(i, ops::cast(*gradients[i], dtypes[i]));
                });
}

Tensor softmax(const Tensor& input, int64_t axis) {
  const Tensor x = detail::autocast_wide(input);
  const OpTimer timer;
  const Tensor y = ops::softmax(x, axis);
  return record(Op::softmax, y, {x}, [y = Saved(y), axis](const Tensor& g, Gradients& in) {
    in.set(0, ops::softmax_backward(g, y, axis));
  });
}

Tensor log_softmax(const Tensor& input, int64_t axis) {
  const Tensor x = detail::autocast_wide(input);
  const OpTimer timer;
  const Tensor y = ops::log_softmax(x, axis);
  return record(Op::log_softmax, y, {x}, [y = Saved(y), axis](const Tensor& g, Gradients& in) {
    in.set(0, ops::log_softmax_backward(g, y, axis));
  });
}

Tensor layer_norm(const Tensor& input, const Tensor& weight, const Tensor& bias, double eps) {
  const Tensor x = detail::autocast_wide(input);
  const OpTimer timer;
  const auto [y, mean, rstd] = ops::layer_norm(x, weight, bias, eps);
  return record(Op::layer_norm, y, {x, weight, bias},
                [x = Saved(x), weight = Saved(weight), mean = Saved(mean), rstd = Saved(rstd)](
                    const Tensor& g, Gradients& in) {
                  const ops::NormGradients gradients =
                      ops::layer_norm_backward(g, x, weight, mean, rstd, in.needs(1), in.needs(2));
                  in.set(0, gradients.x);
                  if (in.needs(1)) in.set(1, gradients.weight);
                  if (in.needs(2)) in.set(2, gradients.bias);
                });
}

SumAndNorm add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                          const Tensor& bias, double eps) {
  const DType dtype = promote(x.dtype(), residual.dtype());
  const bool widens = autocast_dtype() && accumulate_dtype(dtype) != dtype;
  if (x.shape() != residual.shape() || x.dtype() != dtype || widens) {
    const Tensor sum = x + residual;
    return {sum, layer_norm(sum, weight, bias, eps)};
  }
  const OpTimer timer;
  const auto [sum, y, mean, rstd] = ops::add_layer_norm(x, residual, weight, bias, eps);
  std::vector<Tensor> outputs = {sum, y};
  record_outputs(Op::add_layer_norm, outputs, std::array{x, residual, weight, bias},
                 [sum = Saved(sum), weight = Saved(weight), mean = Saved(mean), rstd = Saved(rstd),
                  residual_dtype = residual.dtype()](std::span<const Tensor> g, Gradients& in) {
                   ops::NormGradients gradients{g[0], {}, {}};
                   if (g[1].defined())
                     gradients = ops::add_layer_norm_backward(g[1], g[0], sum, weight, mean, rstd,
                                                              in.needs(2), in.needs(3));
                   in.set(0, gradients.x);
                   if (in.needs(1)) in.set(1, ops::cast(gradients.x, residual_dtype));
                   if (in.needs(2)) in.set(2, gradients.weight);
                   if (in.needs(3)) in.set(3, gradients.bias);
                 });
  return {outputs[0], outputs[1]};
}

Tensor rms_norm(const Tensor& input, const Tensor& weight, double eps) {
  const Tensor x = detail::autocast_wide(input);
  const OpTimer timer;
  const auto [y, rstd] = ops::rms_norm(x, weight, eps);
  return record(
      Op::rms_norm, y, {x, weight},
      [x = Saved(x), weight = Saved(weight), rstd = Saved(rstd)](const Tensor& g, Gradients& in) {
        const ops::NormGradients gradients =
            ops::rms_norm_backward(g, x, weight, rstd, in.needs(1));
        in.set(0, gradients.x);
        if (in.needs(1)) in.set(1, gradients.weight);
      });
}

Tensor dropout(const Tensor& x, double p, bool training) {
  ops::check_dropout(x, p);
  if (!training || p == 0.0) return x;
  const RandomKey key = default_generator().next(Stream::model);
  const OpTimer timer;
  return record(Op::dropout, ops::dropout(x, p, key), {x},
                [p, key](const Tensor& g, Gradients& in) { in.set(0, ops::dropout(g, p, key)); });
}

Tensor embedding(const Tensor& indices, const Tensor& weight, std::optional<int64_t> padding_idx) {
  const OpTimer timer;
  const Tensor y = ops::embedding(indices, weight, padding_idx);
  return record(Op::embedding, y, {weight},
                [indices = Saved(indices), classes = weight.size(0), padding_idx](const Tensor& g,
                                                                                  Gradients& in) {
                  // A tied head has given the table a dense gradient already.
                  if (in.sum(0).defined())
                    ops::embedding_backward_add(in.sum(0), g, indices, padding_idx);
                  else
                    in.set(0, ops::embedding_backward(g, indices, classes, padding_idx));
                });
}

Tensor rotary_embedding(const Tensor& x, double theta, int64_t offset, bool interleaved) {
  const OpTimer timer;
  const Tensor y = ops::rotary_embedding(x, theta, offset, interleaved);
  return record(Op::rotary_embedding, y, {x},
                [theta, offset, interleaved](const Tensor& g, Gradients& in) {
                  in.set(0, ops::rotary_embedding_backward(g, theta, offset, interleaved));
                });
}

}  // namespace tendril
