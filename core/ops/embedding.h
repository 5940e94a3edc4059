// Rows of a table. Shapes: indices (...) of i64 or i32, weight (V, C), y and g (..., C).
//
//   y[n] = weight[indices[n]]          dweight[v] = sum of g[n] over all n with indices[n] = v, in
//   order
#pragma once

#include <optional>

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// Error when an index, or `padding_idx`, is outside [0, V).
TENDRIL_API Tensor embedding(const Tensor& indices, const Tensor& weight,
                             std::optional<int64_t> padding_idx);
/// dweight (classes, C) in g's dtype; the row `padding_idx` stays zero.
TENDRIL_API Tensor embedding_backward(const Tensor& g, const Tensor& indices, int64_t classes,
                                      std::optional<int64_t> padding_idx);
/// The same, added to `sum`, a dense (V, C): rows that are not looked up cost nothing.
TENDRIL_API void embedding_backward_add(const Tensor& sum, const Tensor& g, const Tensor& indices,
                                        std::optional<int64_t> padding_idx);

}  // namespace tendril::ops
