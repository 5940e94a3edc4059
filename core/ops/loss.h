// Losses. The loss of 16-bit inputs is f32: a bf16 could not tell 10.80 from 10.83. Sums run in
// double. Reduction::none gives one loss per row (per element for the pointwise losses), mean and
// sum a scalar. Backward functions take the gradient g of that result.
#pragma once

#include <tendril/core/ops/loss_options.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

// ---- against class indices. Shapes: logits, log_probabilities (..., V), target (...) of i64 or
// i32. A target is an index in [0, V) or ignore_index; anything else is an Error. Ignored rows have
// loss 0 and gradient 0, and do not count for the mean; when all are ignored the mean is 0.

struct CrossEntropyResult {
  Tensor loss;
  Tensor logsumexp;  // (rows) in f64: all that backward needs beside the logits
};

/// With e = label_smoothing and L = log sum_j exp(x_j):
///   loss = (1 - e) (L - x_y) + e (L - mean_j x_j)
///   dx_j = g (exp(x_j - L) - (1 - e) [j = y] - e / V)
TENDRIL_API CrossEntropyResult cross_entropy(const Tensor& logits, const Tensor& target,
                                             const CrossEntropyOptions& options);
TENDRIL_API Tensor cross_entropy_backward(const Tensor& g, const Tensor& logits,
                                          const Tensor& target, const Tensor& logsumexp,
                                          const CrossEntropyOptions& options);

/// loss = -x_y; dx_j = -g [j = y]
TENDRIL_API Tensor nll_loss(const Tensor& log_probabilities, const Tensor& target,
                            int64_t ignore_index, Reduction reduction);
TENDRIL_API Tensor nll_loss_backward(const Tensor& g, const Tensor& log_probabilities,
                                     const Tensor& target, int64_t ignore_index,
                                     Reduction reduction);

// ---- pointwise. x and target have the same shape and dtype; the mean is over all elements.

struct PairGradients {
  Tensor x, target;
};  // undefined where not asked for
struct Wanted {
  bool x = true, target = false;
};

/// d = x - t: loss = d^2; dx = 2 d; dt = -2 d
TENDRIL_API Tensor mse_loss(const Tensor& x, const Tensor& target, Reduction reduction);
TENDRIL_API PairGradients mse_loss_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                                            Reduction reduction, Wanted wanted);

/// d = x - t: loss = |d|; dx = sign(d); dt = -sign(d); both 0 at d = 0
TENDRIL_API Tensor l1_loss(const Tensor& x, const Tensor& target, Reduction reduction);
TENDRIL_API PairGradients l1_loss_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                                           Reduction reduction, Wanted wanted);

/// loss = max(x, 0) - x t + log(1 + exp(-|x|)); dx = sigmoid(x) - t; dt = -x
TENDRIL_API Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target,
                                                    Reduction reduction);
TENDRIL_API PairGradients binary_cross_entropy_with_logits_backward(
    const Tensor& g, const Tensor& x, const Tensor& target, Reduction reduction, Wanted wanted);

/// x are log probabilities.
///   log_target false: loss = t (log t - x); dx = -t;      dt = log t + 1 - x; all 0 at t = 0
///   log_target true:  loss = e^t (t - x);   dx = -e^t;    dt = e^t (t - x + 1); all 0 at e^t = 0
TENDRIL_API Tensor kl_div(const Tensor& x, const Tensor& target, Reduction reduction,
                          bool log_target);
TENDRIL_API PairGradients kl_div_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                                          Reduction reduction, bool log_target, Wanted wanted);

}  // namespace tendril::ops
