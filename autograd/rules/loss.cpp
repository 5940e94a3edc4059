// The losses' functions and their tape rules; the mathematics is in core/ops.

#include <memory>
#include <utility>

#include <tendril/autograd/autocast.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/linear_loss.h>
#include <tendril/core/ops/loss.h>

namespace tendril {
namespace {

// forward(x, target) -> loss, backward(g, x, target, wanted) -> ops::PairGradients
template <class Forward, class Backward>
Tensor pair_rule(Op op, const Tensor& x_input, const Tensor& target_input, Forward forward,
                 Backward backward) {
  const Tensor x = detail::autocast_wide(x_input), target = detail::autocast_wide(target_input);
  const OpTimer timer;
  return record(op, forward(x, target), {x, target},
                [backward, x = Saved(x), target = Saved(target)](const Tensor& g, Gradients& in) {
                  const ops::Wanted wanted{.x = in.needs(0), .target = in.needs(1)};
                  const ops::PairGradients gradients = backward(g, x.get(), target.get(), wanted);
                  if (wanted.x) in.set(0, gradients.x);
                  if (wanted.target) in.set(1, gradients.target);
                });
}

}  // namespace

Tensor cross_entropy(const Tensor& input, const Tensor& target,
                     const CrossEntropyOptions& options) {
  const Tensor logits = detail::autocast_wide(input);
  const OpTimer timer;
  const auto [loss, logsumexp] = ops::cross_entropy(logits, target, options);
  return record(Op::cross_entropy, loss, {logits},
                [logits = Saved(logits), target = Saved(target), logsumexp = Saved(logsumexp),
                 options](const Tensor& g, Gradients& in) {
                  in.set(0, ops::cross_entropy_backward(g, logits, target, logsumexp, options));
                });
}

Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& target,
                            const Tensor& bias, const CrossEntropyOptions& options) {
  const OpTimer timer;
  const auto wanted = [&](const Tensor& input) {
    return options.reduction != Reduction::none && grad_enabled() && input.defined() &&
           input.requires_grad();
  };
  const auto [rows, matrix, offsets] = detail::autocast_narrow(x, weight, bias);
  const auto [loss, ready] =
      ops::linear_cross_entropy(rows, matrix, target, offsets, options,
                                {.x = wanted(x), .weight = wanted(weight), .bias = wanted(bias)});
  timer.flops([&] {  // the logits, and the gradients that are formed with them
    const int64_t products = 1 + wanted(x) + wanted(weight);
    return products * 2 * x.numel() * weight.size(0);
  });
  // The first backward takes the gradients away: it may scale them in place and give them to the
  // tape without a copy.
  return record(
      Op::linear_cross_entropy, loss, {x, weight, bias},
      [x = Saved(rows), weight = Saved(matrix), target = Saved(target), bias = Saved(offsets),
       options, x_dtype = x.dtype(), weight_dtype = weight.dtype(),
       bias_dtype = bias.defined() ? bias.dtype() : f32,
       ready = std::make_shared<ops::LinearGradients>(ready)](const Tensor& g, Gradients& in) {
        const auto gradients =
            ops::can_scale(*ready, g)
                ? ops::scale_gradients(std::exchange(*ready, {}), g, x_dtype, weight_dtype,
                                       bias_dtype)
                : ops::linear_cross_entropy_backward(
                      g, x, weight, target, bias, options,
                      {.x = in.needs(0), .weight = in.needs(1), .bias = in.needs(2)});
        if (in.needs(0)) in.set(0, ops::cast(gradients.x, x_dtype));
        if (in.needs(1)) in.set(1, ops::cast(gradients.weight, weight_dtype));
        if (in.needs(2)) in.set(2, ops::cast(gradients.bias, bias_dtype));
      });
}

Tensor nll_loss(const Tensor& input, const Tensor& target, int64_t ignore_index,
                Reduction reduction) {
  const Tensor log_probabilities = detail::autocast_wide(input);
  const OpTimer timer;
  const Tensor loss = ops::nll_loss(log_probabilities, target, ignore_index, reduction);
  return record(Op::nll_loss, loss, {log_probabilities},
                [x = Saved(log_probabilities), target = Saved(target), ignore_index, reduction](
                    const Tensor& g, Gradients& in) {
                  in.set(0, ops::nll_loss_backward(g, x, target, ignore_index, reduction));
                });
}

Tensor mse_loss(const Tensor& x, const Tensor& target, Reduction reduction) {
  return pair_rule(
      Op::mse_loss, x, target,
      [&](auto& x, auto& target) { return ops::mse_loss(x, target, reduction); },
      [reduction](auto& g, auto& x, auto& target, auto wanted) {
        return ops::mse_loss_backward(g, x, target, reduction, wanted);
      });
}

Tensor l1_loss(const Tensor& x, const Tensor& target, Reduction reduction) {
  return pair_rule(
      Op::l1_loss, x, target,
      [&](auto& x, auto& target) { return ops::l1_loss(x, target, reduction); },
      [reduction](auto& g, auto& x, auto& target, auto wanted) {
        return ops::l1_loss_backward(g, x, target, reduction, wanted);
      });
}

Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target,
                                        Reduction reduction) {
  return pair_rule(
      Op::binary_cross_entropy_with_logits, x, target,
      [&](auto& x, auto& target) {
        return ops::binary_cross_entropy_with_logits(x, target, reduction);
      },
      [reduction](auto& g, auto& x, auto& target, auto wanted) {
        return ops::binary_cross_entropy_with_logits_backward(g, x, target, reduction, wanted);
      });
}

Tensor kl_div(const Tensor& log_probabilities, const Tensor& target, Reduction reduction,
              bool log_target) {
  return pair_rule(
      Op::kl_div, log_probabilities, target,
      [&](auto& x, auto& target) { return ops::kl_div(x, target, reduction, log_target); },
      [reduction, log_target](auto& g, auto& x, auto& target, auto wanted) {
        return ops::kl_div_backward(g, x, target, reduction, log_target, wanted);
      });
}

}  // namespace tendril
