// Reading and writing at given indices. Indices are i64 or i32 of any layout; one outside [0, size)
// is an Error before anything is written. A GPU reads zero and writes nothing for such an index, and
// the Error comes at the next wait for it. Sums are formed in the order of the indices:
// deterministic.
#pragma once

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// The indices as dense i64; on the CPU each is checked to be in [0, size), on a GPU the kernel that
/// uses them does so (cuda::IndexFault).
TENDRIL_API Tensor checked_indices(const char* op, const Tensor& indices, int64_t size);

/// out[..., j, ...] = x[..., indices[j], ...]; indices is 1-D.
TENDRIL_API Tensor index_select(const Tensor& x, int64_t axis, const Tensor& indices);
/// The gradient (of `shape`): row i is the sum of the rows j of g with indices[j] == i.
TENDRIL_API Tensor index_select_backward(const Tensor& g, const Shape& shape, int64_t axis,
                                         const Tensor& indices);

/// out[i][j][k] = x[i][indices[i][j][k]][k] for axis 1; shapes agree outside the axis.
TENDRIL_API Tensor gather(const Tensor& x, int64_t axis, const Tensor& indices);
/// The gradient (of `shape`): scatter_add(zeros, axis, indices, g).
TENDRIL_API Tensor gather_backward(const Tensor& g, const Shape& shape, int64_t axis,
                                   const Tensor& indices);

/// x, plus source[i][j][k] added at [i][indices[i][j][k]][k] for axis 1. 16-bit floats are summed
/// in f32. Gradients: g for x, gather(g, axis, indices) for source.
TENDRIL_API Tensor scatter_add(const Tensor& x, int64_t axis, const Tensor& indices,
                               const Tensor& source);

/// (...) indices in [0, classes) to (..., classes): 1 at the index, 0 elsewhere.
TENDRIL_API Tensor one_hot(const Tensor& indices, int64_t classes, DType dtype);

}  // namespace tendril::ops
