// What reading and writing at indices needs on every device. Internal; used by indexing.cpp and
// indexing.cu.
#pragma once

#include <type_traits>

#include <tendril/core/dtype.h>
#include <tendril/core/shape.h>

namespace tendril::ops {

/// A tensor seen as (outer, size, inner) around one axis.
struct Around {
  int64_t outer = 1, size = 0, inner = 1;

  Around(const Shape& shape, int64_t axis) : size(shape[axis]) {
    for (int64_t i = 0; i < axis; ++i) outer *= shape[i];
    for (int64_t i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  }
};

/// Wraps around for integers, where signed overflow would be undefined.
template <class T>
TENDRIL_HD T wrapping_sum(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) +
                          static_cast<std::make_unsigned_t<T>>(b));
  else
    return static_cast<T>(a + b);
}

/// Calls body with the type of every dtype that can be summed: all but bool.
template <class Body>
void visit_summable(DType dtype, Body&& body) {
  visit_dtype(dtype, [&]<class T>(TypeTag<T> tag) {
    if constexpr (!std::is_same_v<T, bool>) body(tag);
  });
}

/// Calls body with an unsigned integer as wide as an element: moving numbers needs no arithmetic.
template <class Body>
void visit_bits(DType dtype, Body&& body) {
  switch (size_of(dtype)) {
    case 8:
      return body(TypeTag<uint64_t>{});
    case 4:
      return body(TypeTag<uint32_t>{});
    case 2:
      return body(TypeTag<uint16_t>{});
    default:
      return body(TypeTag<uint8_t>{});
  }
}

}  // namespace tendril::ops
