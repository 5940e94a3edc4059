#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/memory_order.h>

#include <algorithm>

namespace tendril::ops {

Tensor in_memory_order(const Tensor& x) {
  if (x.is_contiguous()) return x;
  Shape axes = Shape::filled(x.rank(), 0);
  for (int64_t i = 0; i < x.rank(); ++i) axes[i] = i;
  std::sort(axes.begin(), axes.end(),
            [&](int64_t a, int64_t b) { return x.strides()[a] > x.strides()[b]; });
  int64_t expected = 1;
  for (int64_t i = x.rank() - 1; i >= 0; --i) {
    if (x.shape()[axes[i]] == 1) continue;
    if (x.strides()[axes[i]] != expected) return contiguous(x);
    expected *= x.shape()[axes[i]];
  }
  return Tensor::view(x.storage(), x.offset(), {x.numel()}, {1}, x.dtype());
}

}  // namespace tendril::ops
