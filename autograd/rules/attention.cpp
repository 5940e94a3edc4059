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

// q, k and v as given, and as the operation computes with them.
struct Operands {
  Operands(const Tensor& q, const Tensor& k, const Tensor& v)
      : given{q, k, v}, used(detail::autocast_narrow(q, k, v)) {}

  std::array<Tensor, 3> given, used;
};

// A gradient in the dtype of the operand as it was given.
void set_gradient(Gradients& in, size_t i, const Tensor& gradient, DType dtype) {
  if (in.needs(i)) in.set(i, ops::cast(gradient, dtype));
}

// backward(g, q, k, v, result) -> ops::AttentionGradients
template <class Backward>
Tensor record_attention(const ops::AttentionResult& result, const Operands& operands,
                        const Tensor& mask, Backward backward) {
  const auto& [q, k, v] = operands.used;
  return record(Op::scaled_dot_product_attention, result.output, operands.given,
                [q = Saved(q), k = Saved(k), v = Saved(v), output = Saved(result.output),
                 lse = Saved(result.lse), mask = Saved(mask), q_dtype = operands.given[0].dtype(),
                 k_dtype = operands.given[1].dtype(), v_dtype = operands.given[2].dtype(),
                 backward = std::move(backward)](const Tensor& g, Gradients& in) {
                  mask.get();  // unchanged since the forward pass
                  const ops::AttentionGradients grads =
                      backward(g, q.get(), k.get(), v.get(), ops::AttentionResult{output, lse});
                  set_gradient(in, 0, grads.q, q_dtype);
                  set_gradient(in, 1, grads.k, k_dtype);
                  set_gradient(in, 2, grads.v, v_dtype);
                });
}

Tensor attend_packed(const Operands& operands, const AttentionOptions& options) {
  const auto& [q, k, v] = operands.used;
  TENDRIL_CHECK(q.rank() == 4 && k.rank() == 4 && k.shape() == v.shape(),
                "[scaled_dot_product_attention] needs q (B, H, Tq, D), k and v (B, Hk, Tk, D); "
                "got ",
                q.shape(), ", ", k.shape(), " and ", v.shape());
  const ops::PackedSequences sequences =
      ops::packed_sequences(options.q_starts, options.k_starts, q.size(2), k.size(2));
  const ops::AttentionSettings settings = settings_of(options, sequences.count());
  const OpTimer timer;
  const ops::AttentionResult result = ops::packed_attention(q, k, v, settings, sequences);
  timer.flops(
      [&, &q = q, &k = k] { return ops::packed_attention_flops(q, k, settings, sequences); });
  return record_attention(
      result, operands, options.mask,
      [settings, sequences](const Tensor& g, const Tensor& q, const Tensor& k, const Tensor& v,
                            const ops::AttentionResult& result) {
        return ops::packed_attention_backward(g, q, k, v, result, settings, sequences);
      });
}

}  // namespace

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options) {
  const Operands operands(q, k, v);
  if (options.q_starts.defined() || options.k_starts.defined())
    return attend_packed(operands, options);
  const ops::AttentionSettings settings = settings_of(options, 1);
  const auto& used = operands.used;
  const OpTimer timer;
  const ops::AttentionResult result = ops::attention(used[0], used[1], used[2], settings);
  timer.flops([&] { return ops::attention_flops(q, k, settings); });
  return record_attention(result, operands, options.mask,
                          [settings](const Tensor& g, const Tensor& q, const Tensor& k,
                                     const Tensor& v, const ops::AttentionResult& result) {
                            return ops::attention_backward(g, q, k, v, result, settings);
                          });
}

}  // namespace tendril
