// What the losses against class indices share: reading the targets and reducing the rows' losses.
// Internal.
#pragma once

#include <vector>

#include <tendril/core/ops/loss_options.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

struct Targets {
  std::vector<int64_t> index;  // one per row, in [0, V) or ignore
  int64_t ignore;
  int64_t counted = 0;  // rows that are not ignored

  bool ignored(int64_t row) const { return (*this)[row] == ignore; }
  int64_t operator[](int64_t row) const { return index[static_cast<size_t>(row)]; }
  int64_t rows() const { return static_cast<int64_t>(index.size()); }
};

/// Error unless x is (..., any) of floats and target (...) of indices.
void check_classes(const char* op, const Tensor& x, const Tensor& target);

/// Error when a target is neither in [0, classes) nor ignore_index.
Targets checked_targets(const char* op, const Tensor& target, int64_t classes,
                        int64_t ignore_index);

void check_label_smoothing(const char* op, const CrossEntropyOptions& options);

/// One loss per row -> the result. Summed in order, in double.
Tensor reduce_rows(const std::vector<double>& losses, const Targets& targets, const Shape& shape,
                   DType dtype, Reduction reduction);

/// Error unless the gradient g has the shape of the loss against a target of `shape`.
void check_loss_gradient(const char* op, const Tensor& g, const Shape& shape, Reduction reduction);

/// The gradient of each row's loss, from the gradient g of the result.
std::vector<double> row_gradients(const char* op, const Tensor& g, const Targets& targets,
                                  const Shape& shape, Reduction reduction);

}  // namespace tendril::ops
