// Reading and writing tensors block by block in a computing type, whatever their layout and dtype.
//
// Kernels then exist only for contiguous float, double and int64_t blocks; strides, broadcasting
// and 16-bit formats cost one pass through a buffer that stays in the first-level cache.
#pragma once

#include <tendril/core/strided.h>
#include <tendril/core/tensor.h>

namespace tendril::cpu {

inline constexpr int64_t kBlock = 1024;  // elements

/// A tensor repeated over a shape, or a number.
class BlockReader {
 public:
  BlockReader() = default;
  BlockReader(const Tensor& tensor, const Shape& broadcast_to);
  explicit BlockReader(double scalar) : scalar_(scalar), is_scalar_(true) {}

  /// `n` <= kBlock elements from row-major position `begin`: a pointer into the tensor when it
  /// holds them as T one after the other, else `buffer` filled with them.
  template <class T>
  const T* read(int64_t begin, int64_t n, T* buffer) const;

 private:
  const void* data_ = nullptr;
  DType dtype_ = f32;
  double scalar_ = 0.0;
  bool is_scalar_ = false;
  bool contiguous_ = false;
  Shape shape_;  // with neighbouring axes merged where the strides allow
  Strides strides_;
};

/// Stores `n` elements at row-major position `begin` of a contiguous tensor, converted to its
/// dtype.
template <class T>
void write_block(const Tensor& out, int64_t begin, int64_t n, const T* values);

/// Where a kernel should write the block: the tensor itself when it holds T, else `buffer`.
template <class T>
T* block_target(const Tensor& out, int64_t begin, T* buffer) {
  return out.dtype() == dtype_of<T>() ? static_cast<T*>(out.raw_data()) + begin : buffer;
}

}  // namespace tendril::cpu
