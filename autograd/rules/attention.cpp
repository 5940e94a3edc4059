#include <tendril/autograd/autocast.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/attention.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/flops.h>
#include <tendril/core/ops/packed_attention.h>

namespace tendril {
namespace {

// Draws the dropout masks' keys: one, or one for each packed sequence.
ops::AttentionSettings settings_of(const AttentionOptions& options, int64_t sequences) {
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
    for (int64_t i = 1; i < sequences; ++i) default_generator().next(Stream::model);
  }
  return settings;
}

// backward(g, q, k, v, result) -> ops::AttentionGradients
template <class Backward>
Tensor record_attention(const ops::AttentionResult& result, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& mask, Backward backward) {
  return record(Op::scaled_dot_product_attention, result.output, {q, k, v},
                [q = Saved(q), k = Saved(k), v = Saved(v), output = Saved(result.output),
                 lse = Saved(result.lse), mask = Saved(mask),
                 backward = std::move(backward)](const Tensor& g, Gradients& in) {
                  mask.get();  // unchanged since the forward pass
                  const ops::AttentionGradients grads =
                      backward(g, q.get(), k.get(), v.get(), ops::AttentionResult{output, lse});
                  in.set(0, grads.q);
                  in.set(1, grads.k);
                  in.set(2, grads.v);
                });
}

Tensor attend_packed(const Tensor& q, const Tensor& k, const Tensor& v,
                     const AttentionOptions& options) {
  TENDRIL_CHECK(q.rank() == 4 && k.rank() == 4 && k.shape() == v.shape(),
                "[scaled_dot_product_attention] needs q (B, H, Tq, D), k and v (B, Hk, Tk, D); "
                "got ",
                q.shape(), ", ", k.shape(), " and ", v.shape());
  const ops::PackedSequences sequences =
      ops::packed_sequences(options.q_starts, options.k_starts, q.size(2), k.size(2));
  const ops::AttentionSettings settings = settings_of(options, sequences.count());
  const OpTimer timer;
  const ops::AttentionResult result = ops::packed_attention(q, k, v, settings, sequences);
  timer.flops([&] { return ops::packed_attention_flops(q, k, settings, sequences); });
  return record_attention(
      result, q, k, v, options.mask,
      [settings, sequences](const Tensor& g, const Tensor& q, const Tensor& k, const Tensor& v,
                            const ops::AttentionResult& result) {
        return ops::packed_attention_backward(g, q, k, v, result, settings, sequences);
      });
}

}  // namespace

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options) {
  if (options.q_starts.defined() || options.k_starts.defined())
    return attend_packed(q, k, v, options);
  const ops::AttentionSettings settings = settings_of(options, 1);
  const OpTimer timer;
  const ops::AttentionResult result = ops::attention(q, k, v, settings);
  timer.flops([&] { return ops::attention_flops(q, k, settings); });
  return record_attention(result, q, k, v, options.mask,
                          [settings](const Tensor& g, const Tensor& q, const Tensor& k,
                                     const Tensor& v, const ops::AttentionResult& result) {
                            return ops::attention_backward(g, q, k, v, result, settings);
                          });
}

}  // namespace tendril
