// Walking over strided memory on the host, in row-major order of the logical shape.
#pragma once

#include <tendril/core/shape.h>

namespace tendril {

/// Calls body(offset) for every element; offsets are in elements, relative to the first one.
template <class Body>
void for_each_offset(const Shape& shape, const Strides& strides, Body&& body) {
  if (shape.numel() == 0) return;
  const int64_t rank = shape.rank();
  if (rank == 0) return body(int64_t{0});
  Shape index = Shape::filled(rank, 0);
  const int64_t inner = shape[rank - 1], step = strides[rank - 1];
  int64_t offset = 0;
  while (true) {
    for (int64_t i = 0; i < inner; ++i) body(offset + i * step);
    int64_t axis = rank - 2;
    for (; axis >= 0; --axis) {  // advance the outer index like an odometer
      offset += strides[axis];
      if (++index[axis] < shape[axis]) break;
      offset -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
    if (axis < 0) return;
  }
}

/// The offset of the element with row-major position `linear` in a tensor of this shape and
/// strides.
inline int64_t offset_of(int64_t linear, const Shape& shape, const Strides& strides) {
  int64_t offset = 0;
  for (int64_t axis = shape.rank() - 1; axis >= 0; --axis) {
    offset += linear % shape[axis] * strides[axis];
    linear /= shape[axis];
  }
  return offset;
}

/// Strides that repeat a tensor over `target`: broadcast axes get stride 0.
inline Strides broadcast_strides(const Shape& shape, const Strides& strides, const Shape& target) {
  Strides result = Shape::filled(target.rank(), 0);
  const int64_t lead = target.rank() - shape.rank();
  for (int64_t i = 0; i < shape.rank(); ++i) result[lead + i] = shape[i] == 1 ? 0 : strides[i];
  return result;
}

}  // namespace tendril
