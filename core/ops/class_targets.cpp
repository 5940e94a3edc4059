#include <tendril/core/ops/class_targets.h>

#include <algorithm>

#include <tendril/core/ops/dispatch.h>

namespace tendril::ops {

void check_classes(const char* op, const Tensor& x, const Tensor& target) {
  TENDRIL_CHECK(is_floating(x.dtype()), "[", op, "] needs a floating-point tensor; got ", x.dtype(),
                "; cast it with to(x, f32)");
  TENDRIL_CHECK(target.dtype() == i64 || target.dtype() == i32, "[", op,
                "] needs i64 or i32 targets; got ", target.dtype(), "; cast them with to(x, i64)");
  Shape rows = x.shape();
  if (rows.rank() > 0) rows.erase(rows.rank() - 1);
  TENDRIL_CHECK(x.rank() >= 1 && target.shape() == rows, "[", op, "] shapes do not fit; got ",
                x.shape(), " and target ", target.shape(),
                "; the target must have x's shape without the last axis");
  require_same_device(op, x, target);
}

Targets checked_targets(const char* op, const Tensor& target, int64_t classes,
                        int64_t ignore_index) {
  Targets targets{target.to_vector<int64_t>(), ignore_index};
  for (const int64_t value : targets.index) {
    if (value == ignore_index) continue;
    TENDRIL_CHECK(value >= 0 && value < classes, "[", op, "] target out of range; got ", value,
                  " for ", classes, " classes; targets must be in [0, ", classes,
                  ") or ignore_index ", ignore_index);
    ++targets.counted;
  }
  return targets;
}

void check_label_smoothing(const char* op, const CrossEntropyOptions& options) {
  TENDRIL_CHECK(options.label_smoothing >= 0.0 && options.label_smoothing <= 1.0, "[", op,
                "] label_smoothing out of range; got ", options.label_smoothing,
                "; it must be in [0, 1]");
}

Tensor reduce_rows(const std::vector<double>& losses, const Targets& targets, const Shape& shape,
                   DType dtype, Reduction reduction) {
  const Tensor result = Tensor::empty(reduction == Reduction::none ? shape : Shape{}, dtype);
  double total = 0.0;
  for (const double loss : losses) total += loss;
  if (reduction == Reduction::mean)
    total = targets.counted > 0 ? total / static_cast<double>(targets.counted) : 0.0;
  visit_floating("loss", dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* out = result.data<T>();
    if (reduction == Reduction::none)
      for (const double loss : losses) *out++ = static_cast<T>(loss);
    else
      *out = static_cast<T>(total);
  });
  return result;
}

void check_loss_gradient(const char* op, const Tensor& g, const Shape& shape, Reduction reduction) {
  TENDRIL_CHECK(g.shape() == (reduction == Reduction::none ? shape : Shape{}), "[", op,
                "] the gradient does not fit the loss; got ", g.shape(), " for target ", shape,
                "; it must have the shape of the loss");
}

std::vector<double> row_gradients(const char* op, const Tensor& g, const Targets& targets,
                                  const Shape& shape, Reduction reduction) {
  check_loss_gradient(op, g, shape, reduction);
  if (reduction == Reduction::none) return g.to_vector<double>();
  const double count = reduction == Reduction::mean
                           ? static_cast<double>(std::max<int64_t>(targets.counted, 1))
                           : 1.0;
  return std::vector<double>(targets.index.size(), g.item<double>() / count);
}

}  // namespace tendril::ops
