// The head of a language model and its loss in one: cross_entropy(linear(x, weight, bias), target).
// Its logits (rows, V) are the largest tensor of a training step; here they exist for a chunk of
// rows at a time, and each chunk is multiplied into the gradients as soon as its loss is known, as
// in Liger Kernel (Hsu et al. 2024, arXiv:2410.10989). Sums run in f32 (f64 when an operand is
// f64).
//
// Shapes: x (..., C), weight (V, C), bias (V) or undefined, target (...) of i64 or i32. Targets,
// ignored rows and results are those of ops::cross_entropy; ignored rows take part in no product.
#pragma once

#include <tendril/core/ops/loss_options.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

/// In f32 or f64, whatever the operands' dtypes are: so they can be scaled before they are rounded.
/// Only the gradient of a bf16 x is rounded at once on a GPU, where it is as large as the model's
/// activations. Undefined where not asked for.
struct LinearGradients {
  Tensor x, weight, bias;
  bool any() const { return x.defined() || weight.defined() || bias.defined(); }
};
struct LinearWanted {
  bool x = false, weight = false, bias = false;
  bool any() const { return x || weight || bias; }
};
struct LinearLoss {
  Tensor loss;
  LinearGradients gradients;  // of the loss, not yet multiplied by the gradient g that reaches it
};

/// With z_n = W x_n + b, L_n = log sum_j exp(z_nj), e = label_smoothing, row weights r_n (1, for
/// mean 1 / number of rows that are not ignored):
///   loss = sum_n r_n ((1 - e) (L_n - z_ny) + e (L_n - mean_j z_nj))
///   D_nj = r_n (exp(z_nj - L_n) - (1 - e) [j = y_n] - e / V)
///   dx = D W, dW = D^T x, db_j = sum_n D_nj
/// Gradients can only be asked for with Reduction::mean and sum: for none each row's g must be
/// known. `chunk_rows` 0 chooses how many rows have logits at a time; it changes rounding only.
TENDRIL_API LinearLoss linear_cross_entropy(const Tensor& x, const Tensor& weight,
                                            const Tensor& target, const Tensor& bias,
                                            const CrossEntropyOptions& options, LinearWanted wanted,
                                            int64_t chunk_rows = 0);
/// The same gradients times g, any reduction. Computes the logits anew.
TENDRIL_API LinearGradients linear_cross_entropy_backward(const Tensor& g, const Tensor& x,
                                                          const Tensor& weight,
                                                          const Tensor& target, const Tensor& bias,
                                                          const CrossEntropyOptions& options,
                                                          LinearWanted wanted,
                                                          int64_t chunk_rows = 0);
/// Whether scale_gradients may be used: it may not on the CPU for a g that is not finite, where 0
/// times infinity would be NaN in ignored rows; on a GPU, which need not be waited for, 0 stays 0.
TENDRIL_API bool can_scale(const LinearGradients& gradients, const Tensor& g);
/// gradients times the scalar g, each in its dtype; in place where it has that dtype already, so
/// nobody else may hold them.
TENDRIL_API LinearGradients scale_gradients(LinearGradients gradients, const Tensor& g, DType x,
                                            DType weight, DType bias);

}  // namespace tendril::ops
