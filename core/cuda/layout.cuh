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

  /// The same positions and offsets with as few axes as the strides allow: each costs a division.
  static Layout merged(const Shape& shape, const Strides& of) {
    Layout layout;
    layout.small = shape.numel() < (int64_t{1} << 31);
    for (int i = 0; i < static_cast<int>(shape.rank()); ++i) {
      if (shape[i] == 1) continue;
      const int last = layout.rank - 1;
      if (last >= 0 && layout.strides[last] == of[i] * shape[i]) {
        layout.sizes[last] *= shape[i];
        layout.strides[last] = of[i];
      } else {
        layout.sizes[layout.rank] = shape[i];
        layout.strides[layout.rank++] = of[i];
      }
    }
    return layout;
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
        layout(Layout::merged(shape, broadcast_strides(x.shape(), x.strides(), shape))) {}

  /// The element at a row-major position of the shape, converted as core/ops/convert.h says.
  template <class C>
  __device__ C load(int64_t position) const {
    if (!data) return static_cast<C>(number);
    return at<C>(dense ? position : layout.offset(position));
  }

  /// The element at an offset in the tensor's memory.
  template <class C>
  __device__ C at(int64_t offset) const {
    switch (dtype) {
      case DType::f64:
        return ops::convert<C>(static_cast<const double*>(data)[offset]);
      case DType::f32:
        return ops::convert<C>(static_cast<const float*>(data)[offset]);
      case DType::bf16:
        return ops::convert<C>(static_cast<const bfloat16*>(data)[offset]);
      case DType::f16:
        return ops::convert<C>(static_cast<const float16*>(data)[offset]);
      case DType::i64:
        return ops::convert<C>(static_cast<const int64_t*>(data)[offset]);
      case DType::i32:
        return ops::convert<C>(static_cast<const int32_t*>(data)[offset]);
      case DType::u8:
        return ops::convert<C>(static_cast<const uint8_t*>(data)[offset]);
      default:
        return ops::convert<C>(static_cast<const bool*>(data)[offset]);
    }
  }
};

/// A dense tensor that takes values of the type they are computed in.
struct Target {
  void* data;
  DType dtype;

  explicit Target(const Tensor& out) : data(out.raw_data()), dtype(out.dtype()) {}

  /// Floating tensors take floats or doubles of their own computing type, integer tensors integers,
  /// bool tensors anything.
  template <class C>
  __device__ void store(int64_t position, C value) const {
    if (dtype == DType::bool_) {
      put<bool>(position, value);
    } else if constexpr (std::is_integral_v<C>) {
      if (dtype == DType::u8)
        put<uint8_t>(position, value);
      else if (dtype == DType::i32)
        put<int32_t>(position, value);
      else
        put<int64_t>(position, value);
    } else if constexpr (std::is_same_v<C, double>) {
      put<double>(position, value);
    } else if (dtype == DType::bf16) {
      put<bfloat16>(position, value);
    } else if (dtype == DType::f16) {
      put<float16>(position, value);
    } else {
      put<float>(position, value);
    }
  }

 private:
  template <class T, class C>
  __device__ void put(int64_t position, C value) const {
    static_cast<T*>(data)[position] = ops::convert<T>(value);
  }
};

}  // namespace tendril::cuda
