#include <tendril/core/ops/reduce_layout.h>

#include <algorithm>
#include <cstdlib>

namespace tendril::ops {
namespace {

void sort_by_stride(Shape& shape, Strides& strides) {
  for (int64_t i = 1; i < shape.rank(); ++i)
    for (int64_t j = i; j > 0 && std::abs(strides[j - 1]) < std::abs(strides[j]); --j) {
      std::swap(strides[j - 1], strides[j]);
      std::swap(shape[j - 1], shape[j]);
    }
}

void merge_neighbours(Shape& shape, Strides& strides) {
  for (int64_t i = shape.rank() - 2; i >= 0; --i) {
    if (strides[i] != strides[i + 1] * shape[i + 1]) continue;
    shape[i] *= shape[i + 1];
    strides[i] = strides[i + 1];
    shape.erase(i + 1);
    strides.erase(i + 1);
  }
}

}  // namespace

ReduceLayout::ReduceLayout(const Tensor& x, const Shape& axes, bool any_order) {
  Shape kept_sizes, reduced_sizes;
  for (int64_t i = 0; i < x.rank(); ++i) {
    const bool vanishes = std::find(axes.begin(), axes.end(), i) != axes.end();
    const int64_t size = x.shape()[i];
    (vanishes ? reduced_sizes : kept_sizes).push_back(size);
    if (size == 1) continue;
    (vanishes ? reduced : kept).push_back(size);
    (vanishes ? reduced_strides : kept_strides).push_back(x.strides()[i]);
  }
  results = kept_sizes.numel();
  count = reduced_sizes.numel();
  if (results == 0 || count == 0)
    return;  // nothing to walk over, and huge sizes must not be multiplied
  if (any_order) sort_by_stride(reduced, reduced_strides);
  merge_neighbours(kept, kept_strides);
  merge_neighbours(reduced, reduced_strides);
}

Shape reduced_shape(const Shape& shape, const Shape& axes, bool keepdim) {
  Shape result;
  for (int64_t i = 0; i < shape.rank(); ++i) {
    if (std::find(axes.begin(), axes.end(), i) == axes.end())
      result.push_back(shape[i]);
    else if (keepdim)
      result.push_back(1);
  }
  return result;
}

Tensor expand_result(const char* op, const Tensor& y, const Shape& x_shape, const Shape& axes,
                     bool keepdim) {
  const Shape expected = reduced_shape(x_shape, axes, keepdim);
  TENDRIL_CHECK(y.shape() == expected, "[", op, "] the gradient has the wrong shape; got ",
                y.shape(), "; it should be ", expected);
  Strides strides = Shape::filled(x_shape.rank(), 0);
  for (int64_t i = 0, next = 0; i < x_shape.rank(); ++i) {
    const bool vanishes = std::find(axes.begin(), axes.end(), i) != axes.end();
    if (!vanishes) strides[i] = y.strides()[next];
    if (!vanishes || keepdim) ++next;
  }
  return Tensor::view(y.storage(), y.offset(), x_shape, strides, y.dtype());
}

}  // namespace tendril::ops
