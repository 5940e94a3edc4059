// Private to core: strided tensors for operations to which the order of elements is all one.
#pragma once

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// A dense tensor with the same elements, in whatever order spares a copy (a transposed view has
/// its elements side by side in memory too).
Tensor in_memory_order(const Tensor& x);

}  // namespace tendril::ops
