// The vocabulary: every operation on tensors. Each records itself on the tape when an input
// requires grad (see tape.h) and throws tendril::Error on bad shapes, dtypes, axes or indices.
//
// Shapes are row-major; B batch, T time, C channels, H heads, V vocabulary. Axes may be negative.
// Binary operations broadcast like NumPy and promote dtypes as core/dtype.h says.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <tendril/core/creation.h>
#include <tendril/core/ops/feed_forward_weights.h>
#include <tendril/core/ops/loss_options.h>
#include <tendril/core/ops/op_list.h>
#include <tendril/core/tensor.h>

namespace tendril {

// ---- pointwise, one row of core/ops/ops.def each: Tensor exp(const Tensor& x), ...
#define UNARY(op, ...) TENDRIL_API Tensor op(const Tensor& x);
#define UNARY1(op, functor, kind, saves, low, high, parameter) \
  TENDRIL_API Tensor op(const Tensor& x, double parameter);
#define UNARY_NONDIFF(op, ...) TENDRIL_API Tensor op(const Tensor& x);
#define BINARY(op, ...)                                    \
  TENDRIL_API Tensor op(const Tensor& a, const Tensor& b); \
  TENDRIL_API Tensor op(const Tensor& a, double b);        \
  TENDRIL_API Tensor op(double a, const Tensor& b);
#define COMPARE(op, ...)                                   \
  TENDRIL_API Tensor op(const Tensor& a, const Tensor& b); \
  TENDRIL_API Tensor op(const Tensor& a, double b);
#include <tendril/core/ops/ops.def>

TENDRIL_API Tensor clamp(const Tensor& x, double low, double high);
TENDRIL_API Tensor logical_not(const Tensor& x);
TENDRIL_API Tensor isfinite(const Tensor& x);
/// condition ? a : b, elementwise; the three broadcast, `condition` is bool.
TENDRIL_API Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
/// `x` with `value` wherever the bool `mask` (which broadcasts to x) is true.
TENDRIL_API Tensor masked_fill(const Tensor& x, const Tensor& mask, double value);
/// Conversion to another dtype (round to nearest even, NaN kept; float to integer truncates toward
/// zero).
TENDRIL_API Tensor to(const Tensor& x, DType dtype);
/// Copy to another device.
TENDRIL_API Tensor to(const Tensor& x, Device device);

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator+(const Tensor& a, double b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, double b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, double b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, double b) { return div(a, b); }
inline Tensor operator+(double a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(double a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(double a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(double a, const Tensor& b) { return div(a, b); }
inline Tensor operator-(const Tensor& x) { return neg(x); }

// ---- reductions. An empty list of axes means all; keepdim leaves size-1 axes. Sums of integers
// and bools are i64. An empty reduction gives 0 (sum), 1 (prod), NaN (mean, var), -inf (logsumexp),
// or an Error (max, min, argmax, argmin).
TENDRIL_API Tensor sum(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
TENDRIL_API Tensor mean(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
TENDRIL_API Tensor prod(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
/// The gradient of a tie goes to its first occurrence, NaN wins over every number.
TENDRIL_API Tensor max(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
TENDRIL_API Tensor min(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
/// Sum of squared deviations / (count - correction).
TENDRIL_API Tensor var(const Tensor& x, const Shape& axes = {}, bool keepdim = false,
                       int64_t correction = 1);
TENDRIL_API Tensor std(const Tensor& x, const Shape& axes = {}, bool keepdim = false,
                       int64_t correction = 1);
/// (sum |x|^p)^(1/p); p = infinity gives the largest |x|. The gradient at 0 is 0.
TENDRIL_API Tensor norm(const Tensor& x, double p = 2.0, const Shape& axes = {},
                        bool keepdim = false);
TENDRIL_API Tensor logsumexp(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
TENDRIL_API Tensor any(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
TENDRIL_API Tensor all(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
/// i64 index along one axis (of the flattened tensor without an axis); the first of equals, NaN
/// wins.
TENDRIL_API Tensor argmax(const Tensor& x, std::optional<int64_t> axis = {}, bool keepdim = false);
TENDRIL_API Tensor argmin(const Tensor& x, std::optional<int64_t> axis = {}, bool keepdim = false);
TENDRIL_API Tensor cumsum(const Tensor& x, int64_t axis);

struct SortResult {
  Tensor values, indices;
};  // indices: i64
/// Stable; NaN sorts as the largest number.
TENDRIL_API SortResult sort(const Tensor& x, int64_t axis = -1, bool descending = false);
TENDRIL_API Tensor argsort(const Tensor& x, int64_t axis = -1, bool descending = false);
/// The k largest (or smallest) along an axis, in order.
TENDRIL_API SortResult topk(const Tensor& x, int64_t k, int64_t axis = -1, bool largest = true);

// ---- layout
/// Same elements in the same order; one size may be -1. A view when the strides allow, else a copy.
TENDRIL_API Tensor reshape(const Tensor& x, const Shape& shape);
/// reshape that must not copy: Error when the strides do not allow a view.
TENDRIL_API Tensor view(const Tensor& x, const Shape& shape);
TENDRIL_API Tensor flatten(const Tensor& x, int64_t first_axis = 0, int64_t last_axis = -1);
TENDRIL_API Tensor transpose(const Tensor& x, int64_t axis0 = -2, int64_t axis1 = -1);
TENDRIL_API Tensor permute(const Tensor& x, const Shape& axes);
/// Repeats size-1 axes without copying; -1 keeps a size.
TENDRIL_API Tensor expand(const Tensor& x, const Shape& shape);
TENDRIL_API Tensor squeeze(const Tensor& x,
                           std::optional<int64_t> axis = {});  // Error when the axis is not 1
TENDRIL_API Tensor unsqueeze(const Tensor& x, int64_t axis);
TENDRIL_API Tensor cat(const std::vector<Tensor>& parts, int64_t axis = 0);
TENDRIL_API Tensor stack(const std::vector<Tensor>& parts, int64_t axis = 0);
/// Views of consecutive pieces of `size` (the last may be smaller), or of the given sizes.
TENDRIL_API std::vector<Tensor> split(const Tensor& x, int64_t size, int64_t axis = 0);
TENDRIL_API std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& sizes,
                                      int64_t axis = 0);
/// At most `count` views of equal size.
TENDRIL_API std::vector<Tensor> chunk(const Tensor& x, int64_t count, int64_t axis = 0);
/// x[..., start:stop:step, ...] on one axis, a view; negative start and stop count from the end,
/// both are clamped as in Python; step must not be 0 (negative steps walk backwards).
TENDRIL_API Tensor slice(const Tensor& x, int64_t axis, int64_t start,
                         std::optional<int64_t> stop = {}, int64_t step = 1);
/// x[..., index, ...]: the axis goes away. A view.
TENDRIL_API Tensor select(const Tensor& x, int64_t axis, int64_t index);
/// Rows `indices` (1-D, i64 or i32) of an axis.
TENDRIL_API Tensor index_select(const Tensor& x, int64_t axis, const Tensor& indices);
/// out[i][j][k] = x[i][indices[i][j][k]][k] for axis 1; shapes agree outside the axis.
TENDRIL_API Tensor gather(const Tensor& x, int64_t axis, const Tensor& indices);
/// x plus `source` added at `indices` along the axis; the inverse of gather.
TENDRIL_API Tensor scatter_add(const Tensor& x, int64_t axis, const Tensor& indices,
                               const Tensor& source);
TENDRIL_API Tensor flip(const Tensor& x, const Shape& axes);
TENDRIL_API Tensor roll(const Tensor& x, int64_t shift, int64_t axis);
/// Tiles: repeats[i] copies along axis i; more repeats than axes add leading axes.
TENDRIL_API Tensor repeat(const Tensor& x, const Shape& repeats);
/// `padding` = {before_0, after_0, before_1, after_1, ...} from the first axis; constant value.
TENDRIL_API Tensor pad(const Tensor& x, const std::vector<int64_t>& padding, double value = 0.0);
/// Keep the lower (upper) triangle of the last two axes, zero elsewhere.
TENDRIL_API Tensor tril(const Tensor& x, int64_t diagonal = 0);
TENDRIL_API Tensor triu(const Tensor& x, int64_t diagonal = 0);
/// A view of a diagonal; it becomes the last axis.
TENDRIL_API Tensor diagonal(const Tensor& x, int64_t offset = 0, int64_t axis0 = 0,
                            int64_t axis1 = 1);
/// x itself when it is dense row-major, else a copy.
TENDRIL_API Tensor contiguous(const Tensor& x);
TENDRIL_API Tensor clone(const Tensor& x);
/// (...) indices in [0, classes) to (..., classes) of `dtype`.
TENDRIL_API Tensor one_hot(const Tensor& indices, int64_t classes, DType dtype = f32);
/// Draws `count` indices per row of non-negative weights (..., V) -> i64 (..., count).
TENDRIL_API Tensor multinomial(const Tensor& weights, int64_t count = 1, bool replacement = false);
/// 1 with the given probability, else 0; in the dtype of `probability`.
TENDRIL_API Tensor bernoulli(const Tensor& probability);

// ---- dense algebra
/// (..., M, K) x (..., K, N) -> (..., M, N); batch axes broadcast; 1-D operands as in NumPy.
/// Transposed operands are read in place.
TENDRIL_API Tensor matmul(const Tensor& a, const Tensor& b);
/// x (..., in), weight (out, in), bias (out) or undefined -> (..., out)
TENDRIL_API Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});
/// Einstein summation over one or two operands, e.g. "bthd,bshd->bhts"; no repeated index within an
/// operand.
TENDRIL_API Tensor einsum(const std::string& equation, const Tensor& a, const Tensor& b);

// ---- layers
/// activation(x up^T + up_bias) down^T + down_bias, or, given a gate (SwiGLU and its kin),
/// (activation(x gate^T + gate_bias) * (x up^T + up_bias)) down^T + down_bias: x (..., C) -> (...,
/// O). `activation` is a unary operation without parameters (Op::gelu, Op::silu ...). One operation
/// instead of five: the activation is applied to each block of the product while it is in the
/// cache, and the activations (..., H) are not kept for backward but computed again there.
TENDRIL_API Tensor feed_forward(const Tensor& x, const FeedForwardWeights& weights,
                                Op activation = Op::gelu);
TENDRIL_API Tensor softmax(const Tensor& x, int64_t axis = -1);
TENDRIL_API Tensor log_softmax(const Tensor& x, int64_t axis = -1);
/// Normalises the last axis: (x - mean) / sqrt(var + eps) * weight + bias; weight (C) and bias (C)
/// may be undefined.
TENDRIL_API Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias,
                              double eps = 1e-5);
struct SumAndNorm {
  Tensor sum, y;
};
/// A residual stream's next step: sum = x + residual and y = layer_norm(sum), in one pass over the
/// numbers.
TENDRIL_API SumAndNorm add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                      const Tensor& bias, double eps = 1e-5);
/// x / sqrt(mean(x^2) + eps) * weight over the last axis.
TENDRIL_API Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps = 1e-6);
/// Zeroes each element with probability p and scales the rest by 1 / (1 - p); identity unless
/// training.
TENDRIL_API Tensor dropout(const Tensor& x, double p, bool training = true);
/// Rows of `weight` (V, C) for `indices` (...) -> (..., C). The row `padding_idx` gets no gradient.
TENDRIL_API Tensor embedding(const Tensor& indices, const Tensor& weight,
                             std::optional<int64_t> padding_idx = {});
/// Rotates pairs (i, i + D/2) of each head of x (B, H, T, D) by position * theta^(-2i/D) ("rotate
/// half", Su et al. 2021); positions start at `offset`. interleaved: pairs (2i, 2i + 1).
TENDRIL_API Tensor rotary_embedding(const Tensor& x, double theta = 10000.0, int64_t offset = 0,
                                    bool interleaved = false);

struct AttentionOptions {
  bool causal = false;   // query t sees keys up to t + (Tk - Tq): the last query sees all keys
  int64_t window = 0;    // > 0: only the last `window` keys up to its own position (needs causal)
  double scale = 0.0;    // 0: 1 / sqrt(D)
  double dropout = 0.0;  // on the probabilities
  bool training = true;  // dropout only then
  Tensor mask =
      {};  // broadcasts to (B, H, Tq, Tk); bool: true may attend; floating: added to the scores
  /// For packed sequences, several one after the other on the axis T: where each begins and the
  /// last one ends, (n + 1) of i32 or i64 on the CPU, rising from 0 to Tq ("cu_seqlens" elsewhere).
  /// Each attends to itself alone, with the same bits as in a call of its own; causal and window
  /// count within it. All B are packed alike.
  Tensor q_starts = {};
  Tensor k_starts = {};  // the same for keys and values; undefined: like q_starts
};
/// softmax(q k^T * scale + mask) v, without a (B, H, T, T) tensor. q (B, H, Tq, D), k and v (B, Hk,
/// Tk, D), H a multiple of Hk (grouped-query attention). A query that sees no key gives zeros.
TENDRIL_API Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                                const AttentionOptions& options = {});

// ---- losses
// Reduction and CrossEntropyOptions: <tendril/core/ops/loss_options.h>. The loss of 16-bit inputs
// is f32.
/// -log softmax(logits)[target]; logits (..., V), target (...) of indices.
TENDRIL_API Tensor cross_entropy(const Tensor& logits, const Tensor& target,
                                 const CrossEntropyOptions& options = {});
/// cross_entropy(linear(x, weight, bias), target, options) without the logits (..., V): they exist
/// for a few rows at a time, and rows whose target is ignored cost nothing. x (..., C), weight (V,
/// C), bias (V) or undefined, target (...). When recording a mean or a sum the gradients are
/// computed along with the loss (they wait for backward in the size of x and weight);
/// Reduction::none and a second backward through a retained graph compute the logits once more.
TENDRIL_API Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& target,
                                        const Tensor& bias = {},
                                        const CrossEntropyOptions& options = {});
/// -log_probabilities[target].
TENDRIL_API Tensor nll_loss(const Tensor& log_probabilities, const Tensor& target,
                            int64_t ignore_index = -100, Reduction reduction = Reduction::mean);
TENDRIL_API Tensor mse_loss(const Tensor& x, const Tensor& target,
                            Reduction reduction = Reduction::mean);
TENDRIL_API Tensor l1_loss(const Tensor& x, const Tensor& target,
                           Reduction reduction = Reduction::mean);
/// Numerically safe -[t log s(x) + (1 - t) log(1 - s(x))], s the sigmoid.
TENDRIL_API Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target,
                                                    Reduction reduction = Reduction::mean);
/// target * (log target - log_probabilities); log_target: `target` is given as a logarithm.
/// Reduction::mean divides by the number of elements.
TENDRIL_API Tensor kl_div(const Tensor& log_probabilities, const Tensor& target,
                          Reduction reduction = Reduction::mean, bool log_target = false);

// ---- in place. They never record: a destination or source that requires grad needs NoGradGuard.
// The tape notices when they change something that a backward pass still needs.
TENDRIL_API void copy_(const Tensor& destination, const Tensor& source);  // broadcasts and converts
TENDRIL_API void fill_(const Tensor& x, double value);
TENDRIL_API void zero_(const Tensor& x);
TENDRIL_API void add_(const Tensor& x, const Tensor& y, double alpha = 1.0);  // x += alpha * y
TENDRIL_API void mul_(const Tensor& x, double factor);

}  // namespace tendril
