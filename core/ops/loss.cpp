// The losses against class indices. The pointwise ones are in pointwise_loss.cpp.
#include <tendril/core/ops/loss.h>

#include <cmath>
#include <vector>

#include <tendril/core/creation.h>
#include <tendril/core/ops/class_targets.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/elements.h>
#include <tendril/core/ops/softmax_rows.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace cpu {
namespace {

template <class T>
CrossEntropyResult cross_entropy_rows(const Tensor& logits, const Tensor& target,
                                      const CrossEntropyOptions& options) {
  const int64_t classes = logits.size(-1);
  const Targets targets = checked_targets("cross_entropy", target, classes, options.ignore_index);
  const Elements<T> in(logits);
  const Tensor logsumexp = Tensor::empty({targets.rows()}, f64);
  double* sums = logsumexp.data<double>();
  std::vector<double> losses(targets.index.size());
  const double smoothing = options.label_smoothing;
  parallel_for(targets.rows(), rows_per_chunk(classes), [&](int64_t begin, int64_t end) {
    const auto buffer = scratch<compute_t<T>>(classes);
    for (int64_t row = begin; row < end; ++row) {
      sums[row] = 0.0;
      if (targets.ignored(row)) continue;
      const auto* x = in.read(row * classes, classes, buffer.get());
      const auto parts = TENDRIL_ISA_CALL(row_exponentials(x, classes));
      const double log_sum = std::log(parts.sum);
      sums[row] = parts.maximum + log_sum;
      double loss = 0.0;  // a weight of 0 must not meet the infinity of a logit of -inf
      if (smoothing < 1.0) loss += (1.0 - smoothing) * (parts.maximum - x[targets[row]] + log_sum);
      if (smoothing > 0.0)
        loss += smoothing * (sums[row] - TENDRIL_ISA_CALL(row_total(x, classes)) /
                                             static_cast<double>(classes));
      losses[static_cast<size_t>(row)] = loss;
    }
  });
  return {reduce_rows(losses, targets, target.shape(), accumulate_dtype(logits.dtype()),
                      options.reduction),
          logsumexp};
}

CrossEntropyResult cross_entropy(const Tensor& logits, const Tensor& target,
                                 const CrossEntropyOptions& options) {
  return visit_floating("cross_entropy", logits.dtype(), [&](auto tag) {
    return cross_entropy_rows<typename decltype(tag)::type>(logits, target, options);
  });
}

template <class T>
void cross_entropy_gradient(const Tensor& g, const Tensor& logits, const Tensor& target,
                            const Tensor& logsumexp, const CrossEntropyOptions& options,
                            const Tensor& dlogits) {
  using C = compute_t<T>;
  const int64_t classes = logits.size(-1);
  const Targets targets =
      checked_targets("cross_entropy_backward", target, classes, options.ignore_index);
  const auto factors =
      row_gradients("cross_entropy_backward", g, targets, target.shape(), options.reduction);
  const Elements<T> in(logits), out(dlogits);
  const double* sums = logsumexp.data<double>();
  const double smoothing = options.label_smoothing,
               share = smoothing / static_cast<double>(classes);
  parallel_for(targets.rows(), rows_per_chunk(classes), [&](int64_t begin, int64_t end) {
    const auto buffer = scratch<C>(classes), result_buffer = scratch<C>(classes);
    for (int64_t row = begin; row < end; ++row) {
      C* dx = out.target(row * classes, classes, result_buffer.get());
      if (targets.ignored(row)) {
        std::fill_n(dx, classes, C(0));
      } else {
        const C* x = in.read(row * classes, classes, buffer.get());
        const double factor = factors[static_cast<size_t>(row)];
        TENDRIL_ISA_CALL(row_probabilities(x, dx, classes, sums[row], share, factor));
        // A row's gradients sum to 0. As minus the sum of the others the target's keeps the digits
        // that p - 1 loses when the prediction is confident.
        C& target_gradient = dx[targets[row]];
        target_gradient = C(0);
        target_gradient = static_cast<C>(-TENDRIL_ISA_CALL(row_total(dx, classes)));
      }
      out.write(row * classes, classes, dx);
    }
  });
}

Tensor cross_entropy_backward(const Tensor& g, const Tensor& logits, const Tensor& target,
                              const Tensor& logsumexp, const CrossEntropyOptions& options) {
  const Tensor dlogits = Tensor::empty(logits.shape(), logits.dtype());
  visit_floating("cross_entropy_backward", logits.dtype(), [&](auto tag) {
    cross_entropy_gradient<typename decltype(tag)::type>(g, logits, target, logsumexp, options,
                                                         dlogits);
  });
  return dlogits;
}

Tensor nll_loss(const Tensor& x, const Tensor& target, int64_t ignore_index, Reduction reduction) {
  const int64_t classes = x.size(-1);
  const Targets targets = checked_targets("nll_loss", target, classes, ignore_index);
  std::vector<double> losses(targets.index.size());
  visit_floating("nll_loss", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Elements<T> in(x);
    for (int64_t row = 0; row < targets.rows(); ++row) {
      compute_t<T> buffer;
      if (!targets.ignored(row))
        losses[static_cast<size_t>(row)] = -*in.read(row * classes + targets[row], 1, &buffer);
    }
  });
  return reduce_rows(losses, targets, target.shape(), accumulate_dtype(x.dtype()), reduction);
}

Tensor nll_loss_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                         int64_t ignore_index, Reduction reduction) {
  const int64_t classes = x.size(-1);
  const Targets targets = checked_targets("nll_loss_backward", target, classes, ignore_index);
  const auto factors = row_gradients("nll_loss_backward", g, targets, target.shape(), reduction);
  const Tensor dx = zeros(x.shape(), x.dtype());
  visit_floating("nll_loss_backward", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* out = dx.data<T>();
    for (int64_t row = 0; row < targets.rows(); ++row)
      if (!targets.ignored(row))
        out[row * classes + targets[row]] =
            static_cast<T>(static_cast<compute_t<T>>(-factors[static_cast<size_t>(row)]));
  });
  return dx;
}

}  // namespace
}  // namespace cpu

namespace cuda {  // loss.cu
CrossEntropyResult cross_entropy(const Tensor& logits, const Tensor& target,
                                 const CrossEntropyOptions& options);
Tensor cross_entropy_backward(const Tensor& g, const Tensor& logits, const Tensor& target,
                              const Tensor& logsumexp, const CrossEntropyOptions& options);
Tensor nll_loss(const Tensor& x, const Tensor& target, int64_t ignore_index, Reduction reduction);
Tensor nll_loss_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                         int64_t ignore_index, Reduction reduction);
}  // namespace cuda

namespace {

void check_cross_entropy(const char* op, const Tensor& logits, const Tensor& target,
                         const CrossEntropyOptions& options) {
  check_classes(op, logits, target);
  check_label_smoothing(op, options);
}

}  // namespace

CrossEntropyResult cross_entropy(const Tensor& logits, const Tensor& target,
                                 const CrossEntropyOptions& options) {
  check_cross_entropy("cross_entropy", logits, target, options);
  return TENDRIL_ON_DEVICE(logits, cross_entropy(logits, target, options));
}

Tensor cross_entropy_backward(const Tensor& g, const Tensor& logits, const Tensor& target,
                              const Tensor& logsumexp, const CrossEntropyOptions& options) {
  check_cross_entropy("cross_entropy_backward", logits, target, options);
  require_same_device("cross_entropy_backward", logits, g, logsumexp);
  TENDRIL_CHECK(logsumexp.numel() == target.numel(),
                "[cross_entropy_backward] logsumexp does not fit; got ", logsumexp.shape(),
                " for target ", target.shape(), "; pass what cross_entropy returned");
  return TENDRIL_ON_DEVICE(logits, cross_entropy_backward(g, logits, target, logsumexp, options));
}

Tensor nll_loss(const Tensor& log_probabilities, const Tensor& target, int64_t ignore_index,
                Reduction reduction) {
  check_classes("nll_loss", log_probabilities, target);
  return TENDRIL_ON_DEVICE(log_probabilities,
                           nll_loss(log_probabilities, target, ignore_index, reduction));
}

Tensor nll_loss_backward(const Tensor& g, const Tensor& log_probabilities, const Tensor& target,
                         int64_t ignore_index, Reduction reduction) {
  check_classes("nll_loss_backward", log_probabilities, target);
  require_same_device("nll_loss_backward", log_probabilities, g);
  return TENDRIL_ON_DEVICE(
      log_probabilities, nll_loss_backward(g, log_probabilities, target, ignore_index, reduction));
}

}  // namespace tendril::ops
