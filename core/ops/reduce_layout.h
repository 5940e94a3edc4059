// How a reduction walks over memory. Internal to the core library; used by reduce*.cpp.
#pragma once

#include <memory>

#include <tendril/core/cpu/scratch.h>
#include <tendril/core/strided.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

/// The axes of x, split into those that stay and those that vanish. Axes of size 1 are dropped, and
/// neighbours that lie one after the other in memory are merged: (B, T, C) over (0, 1) becomes a
/// kept axis C and a reduced axis B*T.
struct ReduceLayout {
  Shape kept, kept_strides;
  Shape reduced, reduced_strides;
  int64_t results = 1;  // product of kept
  int64_t count = 1;    // product of reduced: values per result

  /// `axes` normalised. any_order: the reduced values may be visited in any order, which lets a
  /// transposed tensor be read as it lies in memory.
  ReduceLayout(const Tensor& x, const Shape& axes, bool any_order);

  /// The values of one result are neighbours in memory.
  bool rows_are_dense() const {
    return reduced.empty() || (reduced.rank() == 1 && reduced_strides[0] == 1);
  }
  /// Neighbouring results come from neighbouring values: whole rows can be accumulated at once.
  bool columns_are_dense() const { return !kept.empty() && kept_strides.back() == 1; }
};

/// The shape after reducing `axes` (normalised).
Shape reduced_shape(const Shape& shape, const Shape& axes, bool keepdim);

/// Inverse of a reduction's change of shape, without copying: `y`, shaped like the result, is seen
/// with x's shape; reduced axes get stride 0.
Tensor expand_result(const char* op, const Tensor& y, const Shape& x_shape, const Shape& axes,
                     bool keepdim);

/// Uninitialised memory inside a chunk of parallel_for, until the end of the scope.
template <class T>
using ThreadScratch = tendril::cpu::ScratchArray<T>;

/// Uninitialised memory from the caching allocator that may be returned, for the calling thread
/// outside of parallel_for; for a count of 0 there is none.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count) {
    if (count <= 0) return;
    storage_ = Storage::allocate(count * static_cast<int64_t>(sizeof(T)), Device::cpu());
    data_ = static_cast<T*>(storage_->data());
  }
  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  std::shared_ptr<Storage> storage_;
  T* data_ = nullptr;
};

/// Copies elements [start, start + count) of a strided array, in row-major order, to dense memory.
template <class T, class Out>
void gather_range(const T* x, const Shape& shape, const Strides& strides, int64_t start,
                  int64_t count, Out* out) {
  if (shape.empty()) {
    if (count > 0) out[0] = static_cast<Out>(x[0]);
    return;
  }
  const int64_t inner = shape.back(), step = strides.back();
  Shape outer = shape, outer_strides = strides;
  outer.erase(shape.rank() - 1);
  outer_strides.erase(shape.rank() - 1);
  int64_t row = start / inner, column = start % inner;
  while (count > 0) {
    const T* source = x + offset_of(row, outer, outer_strides) + column * step;
    const int64_t run = inner - column < count ? inner - column : count;
    for (int64_t i = 0; i < run; ++i) out[i] = static_cast<Out>(source[i * step]);
    out += run, count -= run, column = 0, ++row;
  }
}

}  // namespace tendril::ops
