// Strided tensors as kernels see them.
#pragma once

#include <tendril/core/ops/convert.h>
#include <tendril/core/strided.h>
#include <tendril/core/cuda/runtime.cuh>

namespace tendril::cuda {

/// Sizes and strides (in elements), passed to a kernel by value.
struct Layout {
  int rank = 0;
  bool small = true;  // fewer than 2^31 elements
  int64_t sizes[Shape::kMaxRank] = {};
  int64_t strides[Shape::kMaxRank] = {};

  Layout() = default;
  Layout(const Shape& shape, const Strides& of)
      : rank(static_cast<int>(shape.rank())), small(shape.numel() < (int64_t{1} << 31)) {
    for (int i = 0; i < rank; ++i) sizes[i] = shape[i], strides[i] = of[i];
  }

  /// The offset of the element with this row-major position. 32-bit divisions when they suffice:
  /// 64-bit ones are several times slower.
  TENDRIL_HD int64_t offset(int64_t position) const {
    int64_t at = 0;
    if (small) {
      auto rest = static_cast<uint32_t>(position);
      for (int axis = rank - 1; axis >= 0; --axis) {
        const auto size = static_cast<uint32_t>(sizes[axis]);
        const uint32_t next = rest / size;
        at += static_cast<int64_t>(rest - next * size) * strides[axis];
        rest = next;
      }
      return at;
    }
    for (int axis = rank - 1; axis >= 0; --axis) {
      at += position % sizes[axis] * strides[axis];
      position /= sizes[axis];
    }
    return at;
  }
};

/// A tensor of any dtype and layout, broadcast to a shape; or a number.
struct Source {
  const void* data = nullptr;  // null: the number
  DType dtype = f32;
  bool dense = false;
  Layout layout;
  double number = 0.0;

  Source() = default;
  explicit Source(double value) : number(value) {}
  Source(const Tensor& x, const Shape& shape)
      : data(x.raw_data()),
        dtype(x.dtype()),
        dense(x.is_contiguous() && x.shape() == shape),
        layout(shape, broadcast_strides(x.shape(), x.strides(), shape)) {}

  /// The element at a row-major position of the shape, converted as core/ops/convert.h says.
  template <class C>
  __device__ C load(int64_t position) const {
    if (!data) return static_cast<C>(number);
    const int64_t at = dense ? position : layout.offset(position);
    switch (dtype) {
      case DType::f64:
        return ops::convert<C>(static_cast<const double*>(data)[at]);
      case DType::f32:
        return ops::convert<C>(static_cast<const float*>(data)[at]);
      case DType::bf16:
        return ops::convert<C>(static_cast<const bfloat16*>(data)[at]);
      case DType::f16:
        return ops::convert<C>(static_cast<const float16*>(data)[at]);
      case DType::i64:
        return ops::convert<C>(static_cast<const int64_t*>(data)[at]);
      case DType::i32:
        return ops::convert<C>(static_cast<const int32_t*>(data)[at]);
      case DType::u8:
        return ops::convert<C>(static_cast<const uint8_t*>(data)[at]);
      default:
        return ops::convert<C>(static_cast<const bool*>(data)[at]);
    }
  }
};

}  // namespace tendril::cuda
