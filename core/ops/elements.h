// How kernels on the host reach the elements of a tensor of any layout: in runs, in the type in
// which they compute. A run that already lies dense in that type is used in place, anything else
// passes through a small buffer.
#pragma once

#include <algorithm>
#include <type_traits>

#include <tendril/core/cpu/scratch.h>
#include <tendril/core/strided.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

template <class T>
class Elements {
 public:
  using Compute = compute_t<T>;

  /// The elements of `x` in row-major order.
  explicit Elements(const Tensor& x) : Elements(x, x.rank() - 1) {}
  /// The same with `axis` (not negative) moved to the end, so that its elements follow one another.
  Elements(const Tensor& x, int64_t axis)
      : base_(x.data<T>()), dense_(x.is_contiguous() && axis == x.rank() - 1) {
    for (int64_t i = 0; i < x.rank(); ++i) {
      if (i == axis) continue;
      shape_.push_back(x.shape()[i]);
      strides_.push_back(x.strides()[i]);
    }
    shape_.push_back(x.rank() == 0 ? 1 : x.shape()[axis]);
    strides_.push_back(x.rank() == 0 ? 1 : x.strides()[axis]);
    if (dense_) strides_ = contiguous_strides(shape_);
  }

  int64_t row_length() const { return shape_.back(); }
  int64_t rows() const { return shape_.back() == 0 ? 0 : shape_.numel() / shape_.back(); }

  /// `count` elements from position `begin`: in place when possible, else converted into `buffer`.
  const Compute* read(int64_t begin, int64_t count, Compute* buffer) const {
    if (const Compute* run = in_place(begin, count)) return run;
    visit(begin, count,
          [&](int64_t i, int64_t at) { buffer[i] = static_cast<Compute>(base_[at]); });
    return buffer;
  }

  /// Where to compute `count` elements that write() will store.
  Compute* target(int64_t begin, int64_t count, Compute* buffer) const {
    Compute* run = in_place(begin, count);
    return run ? run : buffer;
  }

  void write(int64_t begin, int64_t count, const Compute* values) const {
    if (values == in_place(begin, count)) return;
    visit(begin, count, [&](int64_t i, int64_t at) { base_[at] = static_cast<T>(values[i]); });
  }

 private:
  Compute* in_place(int64_t begin, int64_t count) const {
    if constexpr (std::is_same_v<T, Compute>) {
      if (dense_) return base_ + begin;
      if (strides_.back() == 1 && count > 0 && begin % shape_.back() + count <= shape_.back())
        return base_ + offset_of(begin, shape_, strides_);
    }
    return nullptr;
  }

  // Calls body(i, offset of element begin + i).
  template <class Body>
  void visit(int64_t begin, int64_t count, Body&& body) const {
    if (dense_) {
      for (int64_t i = 0; i < count; ++i) body(i, begin + i);
      return;
    }
    const int64_t inner = shape_.back(), step = strides_.back();
    for (int64_t done = 0; done < count;) {
      const int64_t run = std::min(count - done, inner - (begin + done) % inner);
      const int64_t at = offset_of(begin + done, shape_, strides_);
      for (int64_t i = 0; i < run; ++i) body(done + i, at + i * step);
      done += run;
    }
  }

  T* base_;
  bool dense_;
  Shape shape_;
  Strides strides_;
};

/// Uninitialised memory for one thread's rows, until the end of the scope.
template <class T>
tendril::cpu::ScratchArray<T> scratch(int64_t count) {
  return tendril::cpu::ScratchArray<T>(count);
}

/// Rows of this length that make a worthwhile chunk for parallel_for.
inline int64_t rows_per_chunk(int64_t row_length) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(row_length, 1));
}

}  // namespace tendril::ops
