// Mixed precision: matrix products in 16 bits, sums and normalisations in f32, parameters that stay
// f32 and get f32 gradients ("autocast"; Micikevicius et al. 2018, "Mixed Precision Training").
//
//   Tensor loss;
//   {
//     const AutocastGuard autocast;          // bf16
//     loss = model.loss(tokens, targets);
//   }
//   loss.backward();                         // as recorded, inside or outside of the guard
//   optimizer.step();                        // on f32 parameters
//
// While a guard lives, in its thread:
//   16 bits  matmul, linear, einsum, feed_forward, scaled_dot_product_attention and
//            linear_cross_entropy round their f32 operands, and give 16-bit results (losses: f32).
//            Gradients flow back in the dtype that each operand had before.
//   f32      what is 16 bits wide is widened first, and the result is f32: sum, mean, prod, var,
//            std, norm, logsumexp, cumsum; softmax, log_softmax, layer_norm (that of add_layer_norm
//            too), rms_norm; exp, expm1, log, log1p, rsqrt, reciprocal, softplus, pow; all losses.
//   as ever  everything else: in the dtype of its operands, the wider one where they differ, so
//   that
//            a residual stream which begins in f32 stays f32.
// f64 is left alone. With f16 small gradients vanish unless the loss is scaled; bf16 has the range
// of f32.
//
// A parameter (or a view of one) is rounded once as long as the outermost guard lives and the
// parameter stays unchanged, however often it is used.
#pragma once

#include <array>
#include <optional>

#include <tendril/core/tensor.h>

namespace tendril {

class TENDRIL_API AutocastGuard {
 public:
  /// bf16 or f16, else an Error; nullopt turns the policy off, for a part that needs full
  /// precision. The innermost guard counts.
  explicit AutocastGuard(std::optional<DType> dtype = bf16);
  ~AutocastGuard();
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;

 private:
  std::optional<DType> previous_;
};

/// The 16-bit dtype of the calling thread's policy; nullopt when there is none.
TENDRIL_API std::optional<DType> autocast_dtype();

namespace detail {

/// Whether the policy rounds this operand; undefined ones and integers do not matter.
TENDRIL_API bool autocast_allows(const Tensor& operand);
TENDRIL_API Tensor autocast_round(const Tensor& operand);

/// For rules of operations that the policy runs in 16 bits: the operands rounded to its dtype, off
/// the tape; as they are without a policy or next to one of f64. The rule records its node on the
/// operands it was given, and hands gradients back in their dtypes.
template <class... Operand>
std::array<Tensor, sizeof...(Operand)> autocast_narrow(const Operand&... operands) {
  if (!autocast_dtype() || !(autocast_allows(operands) && ...)) return {operands...};
  return {autocast_round(operands)...};
}

/// For those that it runs in f32: x, widened on the tape if it is 16 bits wide.
TENDRIL_API Tensor autocast_wide(const Tensor& x);

}  // namespace detail
}  // namespace tendril
