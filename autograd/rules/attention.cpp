#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/attention.h>
#include <tendril/core/ops/flops.h>

namespace tendril {

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options) {
  TENDRIL_CHECK(
      !options.mask.defined() || !options.mask.requires_grad(),
      "[scaled_dot_product_attention] the mask gets "
      "no gradient; pass mask.detach(), or compose a learned bias from matmul() and softmax()");
  ops::AttentionSettings settings;
  settings.causal = options.causal;
  settings.window = options.window;
  settings.scale = options.scale;
  settings.mask = options.mask;
  if (options.training && options.dropout != 0.0) {
    settings.dropout = options.dropout;
    settings.key = default_generator().next(Stream::model);
  }
  const OpTimer timer;
  const ops::AttentionResult result = ops::attention(q, k, v, settings);
  timer.flops([&] { return ops::attention_flops(q, k, settings); });
  return record(Op::scaled_dot_product_attention, result.output, {q, k, v},
                [q = Saved(q), k = Saved(k), v = Saved(v), output = Saved(result.output),
                 lse = Saved(result.lse), mask = Saved(options.mask),
                 settings](const Tensor& g, Gradients& in) {
                  mask.get();  // unchanged since the forward pass
                  const ops::AttentionGradients grads =
                      ops::attention_backward(g, q, k, v, {output, lse}, settings);
                  in.set(0, grads.q);
                  in.set(1, grads.k);
                  in.set(2, grads.v);
                });
}

}  // namespace tendril
