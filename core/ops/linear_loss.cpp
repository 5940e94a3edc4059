#include <tendril/core/ops/linear_loss.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <tendril/core/cpu/gemm.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/class_targets.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/elements.h>
#include <tendril/core/ops/indexing.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/softmax_rows.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace cpu {
namespace {

// How many rows have logits at a time. Each chunk packs the weight anew, twice: with fewer than 256
// rows that takes a noticeable share of the time, with more than 1024 it no longer shows.
constexpr int64_t kFewestRows = 256, kMostRows = 1024;
constexpr int64_t kChunkBytes = int64_t{4} << 20;  // in between: logits that stay in the cache

// Equal chunks. Depends on the shapes alone.
int64_t chosen_chunk_rows(int64_t rows, int64_t row_bytes) {
  const int64_t most =
      std::clamp(kChunkBytes / std::max<int64_t>(row_bytes, 1), kFewestRows, kMostRows);
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  return (rows + chunks - 1) / chunks;
}

tendril::cpu::MatrixView rows_of(const Tensor& x, int64_t begin) {
  const char* data = static_cast<const char*>(x.raw_data());
  return {data + begin * x.strides()[0] * size_of(x.dtype()), x.dtype(), x.strides()[0],
          x.strides()[1]};
}

// Replaces a row of logits x by the gradients of its loss times `factor`; returns the loss.
template <class T>
double row_loss(T* x, int64_t classes, int64_t target, double smoothing, bool with_gradient,
                double factor) {
  const double count = static_cast<double>(classes);
  const double mean = smoothing > 0.0 ? TENDRIL_ISA_CALL(row_total(x, classes)) / count : 0.0;
  const double own = x[target];
  // The target's exponential is kept out of the sum: next to it a confident prediction would lose
  // the others, which are its whole loss and gradient.
  x[target] = -std::numeric_limits<T>::infinity();
  const auto others = TENDRIL_ISA_CALL(row_exponentials_in_place(x, classes));
  const double maximum = std::max(others.maximum, own);
  const double others_scale = std::exp(others.maximum - maximum);
  const double others_sum = others.sum * others_scale;
  const double total = others_sum + std::exp(own - maximum);
  const double log_sum = own == maximum ? std::log1p(others_sum) : std::log(total);
  double loss = 0.0;  // a weight of 0 must not meet the infinity of a logit of -inf
  if (smoothing < 1.0) loss += (1.0 - smoothing) * (maximum - own + log_sum);
  if (smoothing > 0.0) loss += smoothing * (maximum - mean + log_sum);
  if (with_gradient) {
    const double share = smoothing / count;
    TENDRIL_ISA_CALL(
        row_affine_in_place(x, classes, factor * others_scale / total, factor * share));
    // A row's gradients sum to 0: the target's is minus the sum of the others.
    x[target] = static_cast<T>(-factor * (others_sum / total - share * (count - 1.0)));
  }
  return loss;
}

// One walk over the rows of x, chunk by chunk.
template <class T>
class Walk {
 public:
  // x (N, C): the rows that count; row n is row `rows[n]` of targets, losses and factors.
  Walk(const Tensor& x, const Tensor& weight, const Tensor& bias, const Targets& targets,
       const std::vector<int64_t>& rows, double smoothing)
      : x_(x),
        weight_(weight),
        bias_(bias.defined() ? contiguous(cast(bias, dtype_of<T>())) : Tensor()),
        targets_(targets),
        rows_(rows),
        smoothing_(smoothing) {}

  /// The rows' losses. With `factors`, the gradients of their losses, also the sums `wanted`.
  std::vector<double> run(const std::vector<double>* factors, LinearWanted wanted,
                          LinearGradients& sums, int64_t chunk_rows) {
    if (wanted.x) sums.x = Tensor::empty({count(), channels()}, dtype_of<T>());
    if (wanted.weight) sums.weight = Tensor::empty({classes(), channels()}, dtype_of<T>());
    if (wanted.bias) sums.bias = zeros({classes()}, dtype_of<T>());
    if (wanted.weight && count() == 0) fill(sums.weight, 0.0);
    if (chunk_rows == 0)
      chunk_rows = chosen_chunk_rows(count(), classes() * static_cast<int64_t>(sizeof(T)));
    std::vector<double> losses(targets_.index.size());
    const Tensor memory = Tensor::empty({std::min(chunk_rows, count()), classes()}, dtype_of<T>());
    T* z = memory.data<T>();
    for (int64_t begin = 0; begin < count(); begin += chunk_rows) {
      const int64_t n = std::min(chunk_rows, count() - begin);
      logits(begin, n, z);
      softmax(begin, n, z, factors, losses);
      if (wanted.x) add_x(begin, n, z, sums.x);
      if (wanted.weight) add_weight(begin, n, z, sums.weight);
      if (wanted.bias) add_bias(n, z, sums.bias);
    }
    return losses;
  }

 private:
  int64_t count() const { return x_.size(0); }
  int64_t channels() const { return x_.size(1); }
  int64_t classes() const { return weight_.size(0); }

  // z (n, V) = x W^T + b
  void logits(int64_t begin, int64_t n, T* z) const {
    if (bias_.defined())
      for (int64_t i = 0; i < n; ++i) std::copy_n(bias_.data<T>(), classes(), z + i * classes());
    tendril::cpu::gemm<T>(n, classes(), channels(), rows_of(x_, begin),
                          rows_of(weight_, 0).transposed(), z, classes(), bias_.defined());
  }

  void softmax(int64_t begin, int64_t n, T* z, const std::vector<double>* factors,
               std::vector<double>& losses) const {
    parallel_for(n, rows_per_chunk(classes()), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t row = rows_[static_cast<size_t>(begin + i)];
        const auto at = static_cast<size_t>(row);
        losses[at] = row_loss(z + i * classes(), classes(), targets_[row], smoothing_,
                              factors != nullptr, factors ? (*factors)[at] : 0.0);
      }
    });
  }

  // dx (n, C) = D (n, V) W (V, C)
  void add_x(int64_t begin, int64_t n, const T* d, const Tensor& dx) const {
    tendril::cpu::gemm<T>(n, channels(), classes(), {d, dtype_of<T>(), classes(), 1},
                          rows_of(weight_, 0), dx.data<T>() + begin * channels(), channels());
  }

  // dW (V, C) += D^T (V, n) x (n, C)
  void add_weight(int64_t begin, int64_t n, const T* d, const Tensor& dw) const {
    tendril::cpu::gemm<T>(classes(), channels(), n, {d, dtype_of<T>(), 1, classes()},
                          rows_of(x_, begin), dw.data<T>(), channels(), begin > 0);
  }

  // db (V) += sum over the rows of D (n, V)
  void add_bias(int64_t n, const T* d, const Tensor& db) const {
    constexpr int64_t kColumns = 256;
    parallel_for(classes(), kColumns, [&](int64_t begin, int64_t end) {
      double sum[kColumns] = {};
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = begin; j < end; ++j) sum[j - begin] += d[i * classes() + j];
      for (int64_t j = begin; j < end; ++j) db.data<T>()[j] += static_cast<T>(sum[j - begin]);
    });
  }

  const Tensor &x_, &weight_;
  const Tensor bias_;
  const Targets& targets_;
  const std::vector<int64_t>& rows_;
  const double smoothing_;
};

struct Outcome {
  std::vector<double> losses;  // one per row; 0 for ignored ones
  LinearGradients gradients;
};

// x (N, C). `factors` may be null: then nothing is wanted.
template <class T>
Outcome walk(const Tensor& x, const Tensor& weight, const Tensor& bias, const Targets& targets,
             double smoothing, const std::vector<double>* factors, LinearWanted wanted,
             int64_t chunk_rows) {
  std::vector<int64_t> rows;
  rows.reserve(targets.index.size());
  for (int64_t row = 0; row < targets.rows(); ++row)
    if (!targets.ignored(row)) rows.push_back(row);
  const bool all = targets.counted == targets.rows();
  const Tensor indices = all ? Tensor() : Tensor::from(rows, {static_cast<int64_t>(rows.size())});
  const Tensor counted = all ? x : index_select(x, 0, indices);
  Outcome outcome;
  outcome.losses = Walk<T>(counted, weight, bias, targets, rows, smoothing)
                       .run(factors, wanted, outcome.gradients, chunk_rows);
  Tensor& dx = outcome.gradients.x;
  if (dx.defined() && !all) dx = index_select_backward(dx, x.shape(), 0, indices);
  return outcome;
}

Outcome walk_rows(const Tensor& x, const Tensor& weight, const Tensor& bias, const Targets& targets,
                  DType dtype, double smoothing, const std::vector<double>* factors,
                  LinearWanted wanted, int64_t chunk_rows) {
  const Tensor rows = reshape(x, {targets.rows(), x.size(-1)});
  Outcome outcome = dtype == f64 ? walk<double>(cast(rows, f64), cast(weight, f64), bias, targets,
                                                smoothing, factors, wanted, chunk_rows)
                                 : walk<float>(rows, weight, bias, targets, smoothing, factors,
                                               wanted, chunk_rows);
  if (outcome.gradients.x.defined()) outcome.gradients.x = reshape(outcome.gradients.x, x.shape());
  return outcome;
}

// `dtype` is that of the operands when they have a common one; sums run in f32 or f64.
LinearLoss linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& target,
                                const Tensor& bias, const CrossEntropyOptions& options, DType dtype,
                                LinearWanted wanted, int64_t chunk_rows) {
  const char* op = "linear_cross_entropy";
  const DType wide = accumulate_dtype(dtype);
  const Targets targets = checked_targets(op, target, weight.size(0), options.ignore_index);
  std::vector<double> factors;
  if (wanted.any())
    factors = row_gradients(op, full({}, 1.0, wide), targets, target.shape(), options.reduction);
  auto outcome = walk_rows(x, weight, bias, targets, wide, options.label_smoothing,
                           wanted.any() ? &factors : nullptr, wanted, chunk_rows);
  return {reduce_rows(outcome.losses, targets, target.shape(), wide, options.reduction),
          std::move(outcome.gradients)};
}

LinearGradients linear_cross_entropy_backward(const Tensor& g, const Tensor& x,
                                              const Tensor& weight, const Tensor& target,
                                              const Tensor& bias,
                                              const CrossEntropyOptions& options, DType dtype,
                                              LinearWanted wanted, int64_t chunk_rows) {
  const char* op = "linear_cross_entropy_backward";
  const Targets targets = checked_targets(op, target, weight.size(0), options.ignore_index);
  const auto factors = row_gradients(op, g, targets, target.shape(), options.reduction);
  return walk_rows(x, weight, bias, targets, accumulate_dtype(dtype), options.label_smoothing,
                   &factors, wanted, chunk_rows)
      .gradients;
}

// x times the scalar g in `dtype`, in x's memory where x has that dtype.
Tensor scaled(const Tensor& x, const Tensor& g, DType dtype) {
  const double factor = g.item<double>();
  constexpr int64_t kChunk = 16384;
  const auto run = [&](auto* values) {
    parallel_for(x.numel(), kChunk, [&](int64_t begin, int64_t end) {
      TENDRIL_ISA_CALL(row_affine_in_place(values + begin, end - begin, factor, 0.0));
    });
  };
  if (factor != 1.0) x.dtype() == f64 ? run(x.data<double>()) : run(x.data<float>());
  return cast(x, dtype);
}

}  // namespace
}  // namespace cpu

namespace cuda {  // linear_loss.cu
LinearLoss linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& target,
                                const Tensor& bias, const CrossEntropyOptions& options, DType dtype,
                                LinearWanted wanted, int64_t chunk_rows);
LinearGradients linear_cross_entropy_backward(const Tensor& g, const Tensor& x,
                                              const Tensor& weight, const Tensor& target,
                                              const Tensor& bias,
                                              const CrossEntropyOptions& options, DType dtype,
                                              LinearWanted wanted, int64_t chunk_rows);
Tensor scaled(const Tensor& x, const Tensor& g, DType dtype);
}  // namespace cuda

namespace {

// The dtype of the logits, were there any.
DType checked_dtype(const char* op, const Tensor& x, const Tensor& weight, const Tensor& target,
                    const Tensor& bias, const CrossEntropyOptions& options) {
  check_classes(op, x, target);
  check_label_smoothing(op, options);
  TENDRIL_CHECK(weight.rank() == 2 && x.size(-1) == weight.size(1), "[", op,
                "] needs x (..., C) and weight (V, C); got ", x.shape(), " and ", weight.shape());
  TENDRIL_CHECK(is_floating(weight.dtype()), "[", op, "] needs a floating-point weight; got ",
                weight.dtype(), "; cast it with to(weight, f32)");
  require_same_device(op, x, weight, bias);
  const DType dtype = promote(x.dtype(), weight.dtype());
  if (!bias.defined()) return dtype;
  TENDRIL_CHECK(is_floating(bias.dtype()) && bias.shape() == Shape{weight.size(0)}, "[", op,
                "] the bias must be (V) = (", weight.size(0), ",) of floats; got ", bias.shape(),
                " ", bias.dtype());
  return promote(dtype, bias.dtype());
}

}  // namespace

LinearLoss linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& target,
                                const Tensor& bias, const CrossEntropyOptions& options,
                                LinearWanted wanted, int64_t chunk_rows) {
  const char* op = "linear_cross_entropy";
  const DType dtype = checked_dtype(op, x, weight, target, bias, options);
  TENDRIL_CHECK(!wanted.any() || options.reduction != Reduction::none, "[", op,
                "] gradients along with the loss need Reduction::mean or sum; for none call "
                "linear_cross_entropy_backward");
  return TENDRIL_ON_DEVICE(
      x, linear_cross_entropy(x, weight, target, bias, options, dtype, wanted, chunk_rows));
}

LinearGradients linear_cross_entropy_backward(const Tensor& g, const Tensor& x,
                                              const Tensor& weight, const Tensor& target,
                                              const Tensor& bias,
                                              const CrossEntropyOptions& options,
                                              LinearWanted wanted, int64_t chunk_rows) {
  const char* op = "linear_cross_entropy_backward";
  const DType dtype = checked_dtype(op, x, weight, target, bias, options);
  require_same_device(op, x, g);
  check_loss_gradient(op, g, target.shape(), options.reduction);
  return TENDRIL_ON_DEVICE(x, linear_cross_entropy_backward(g, x, weight, target, bias, options,
                                                            dtype, wanted, chunk_rows));
}

bool can_scale(const LinearGradients& gradients, const Tensor& g) {
  return gradients.any() && (g.device().is_cuda() || std::isfinite(g.item<double>()));
}

LinearGradients scale_gradients(LinearGradients gradients, const Tensor& g, DType x, DType weight,
                                DType bias) {
  const auto scale = [&](Tensor& gradient, DType dtype) {
    if (gradient.defined()) gradient = TENDRIL_ON_DEVICE(gradient, scaled(gradient, g, dtype));
  };
  scale(gradients.x, x);
  scale(gradients.weight, weight);
  scale(gradients.bias, bias);
  return gradients;
}

}  // namespace tendril::ops
