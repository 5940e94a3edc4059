// The Tensor: a handle to a strided, typed view of memory on a device.
//
// Copying a Tensor copies the handle, not the numbers (use clone()). What is done with tensors is
// said by free functions: <tendril/autograd/functions.h> lists them all.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tendril/core/allocator.h>
#include <tendril/core/device.h>
#include <tendril/core/dtype.h>
#include <tendril/core/shape.h>

namespace tendril {

struct AutogradMeta;  // the tape's slot; core carries it and never looks inside

class TENDRIL_API Tensor {
 public:
  /// The undefined tensor; every use but defined() and assignment is an Error.
  Tensor() = default;

  // ---- creation (more in <tendril/core/creation.h>)

  /// Uninitialised memory.
  static Tensor empty(const Shape& shape, DType dtype = f32, Device device = Device::cpu());
  /// Copies `values`; their count must equal shape.numel().
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape);
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape);
  template <class T>
  static Tensor from(std::initializer_list<T> values, const Shape& shape);
  /// A view of foreign CPU memory, without copying: it must hold shape.numel() elements, row-major.
  /// `owner` keeps it alive; pass null when the memory outlives the tensor.
  template <class T>
  static Tensor external(T* data, const Shape& shape, std::shared_ptr<void> owner = nullptr);
  static Tensor external(void* data, const Shape& shape, DType dtype,
                         std::shared_ptr<void> owner = nullptr);
  /// Takes over a vector without copying its elements.
  template <class T>
  static Tensor adopt(std::vector<T>&& values, const Shape& shape);
  /// A view with any layout of existing storage; bounds are checked. `offset` and `strides` are in
  /// elements.
  static Tensor view(std::shared_ptr<Storage> storage, int64_t offset, const Shape& shape,
                     const Strides& strides, DType dtype);

  // ---- what it is

  bool defined() const { return impl_ != nullptr; }
  const Shape& shape() const;
  const Strides& strides() const;
  int64_t size(int64_t axis) const;  // negative axes count from the end
  int64_t rank() const { return shape().rank(); }
  int64_t numel() const;
  int64_t nbytes() const { return numel() * size_of(dtype()); }
  DType dtype() const;
  Device device() const;
  bool is_contiguous() const;
  const std::shared_ptr<Storage>& storage() const;
  int64_t offset() const;  // of the first element in the storage, in elements
  /// Same handle, hence same numbers, same layout, same place on the tape.
  bool is_same(const Tensor& other) const { return impl_ == other.impl_; }

  // ---- its numbers

  /// Pointer to the first element; T must be the element type (Error otherwise). Mind the strides.
  template <class T>
  T* data() const;
  void* raw_data() const;
  /// All elements of a contiguous CPU tensor, without copying.
  template <class T>
  std::span<T> span() const;
  /// A copy of all elements in row-major order, converted to T as to(x, dtype) does. Waits for a
  /// GPU.
  template <class T>
  std::vector<T> to_vector() const;
  /// The value of a tensor with one element, converted to T. Waits for a GPU.
  template <class T>
  T item() const;
  /// Counts in-place changes; the tape compares it with the value at the time of saving.
  void bump_version() const { storage()->bump_version(); }
  /// Makes this handle (and all its copies) refer to `source`'s memory, layout and dtype: how a
  /// Module changes the dtype or device of a parameter that others already hold.
  void set_data(const Tensor& source);
  /// True when no other Tensor handle and no view shares the memory.
  bool is_unique() const;

  // ---- its place on the tape (defined in the autograd library; see <tendril/autograd/tape.h>)

  bool requires_grad() const;
  /// Marks a leaf as something to differentiate with respect to. Error for integers and non-leaves.
  Tensor& requires_grad_(bool value = true);
  bool is_leaf() const;
  /// The accumulated gradient of a leaf; undefined before the first backward().
  Tensor grad() const;
  void set_grad(const Tensor& grad);
  /// Computes d(this)/d(leaf) for every leaf that requires grad and adds it to leaf.grad().
  /// `gradient` defaults to 1 and must be given when this has more than one element.
  void backward(const Tensor& gradient = {}, bool retain_graph = false) const;
  /// The same numbers, off the tape.
  Tensor detach() const;
  const std::shared_ptr<AutogradMeta>& autograd_slot() const;
  void set_autograd_slot(std::shared_ptr<AutogradMeta> slot);

 private:
  struct Impl;
  explicit Tensor(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  const Impl& impl() const;
  Impl& impl();
  void* data_of(DType expected) const;

  std::shared_ptr<Impl> impl_;
  friend class WeakTensor;
};

/// A reference that does not keep the tensor alive.
class TENDRIL_API WeakTensor {
 public:
  WeakTensor() = default;
  WeakTensor(const Tensor& tensor) : impl_(tensor.impl_) {}
  /// The tensor, or an undefined one when it is gone.
  Tensor lock() const { return Tensor(impl_.lock()); }

 private:
  std::weak_ptr<Tensor::Impl> impl_;
};

/// NumPy-like text, a row per line: `[[1, 2], [3, 4]] f32 (2, 2) cpu`. Columns are aligned; beyond
/// 1000 elements long axes are shortened with "..."; a tensor elsewhere than on the CPU shows no
/// numbers.
TENDRIL_API std::ostream& operator<<(std::ostream& out, const Tensor& tensor);
TENDRIL_API std::string to_string(const Tensor& tensor);

// ---------------------------------------------------------------------------------------------

template <class T>
T* Tensor::data() const {
  return static_cast<T*>(data_of(dtype_of<std::remove_const_t<T>>()));
}

template <class T>
std::span<T> Tensor::span() const {
  TENDRIL_CHECK(device().is_cpu(), "[span] the tensor is on ", device(),
                "; move it with to(x, Device::cpu())");
  TENDRIL_CHECK(is_contiguous(), "[span] needs a contiguous tensor; got strides ", strides(),
                " for shape ", shape(), "; call contiguous(x) first");
  return {data<T>(), static_cast<size_t>(numel())};
}

template <class T>
Tensor Tensor::from(std::span<const T> values, const Shape& shape) {
  TENDRIL_CHECK(static_cast<int64_t>(values.size()) == shape.numel(), "[from] got ", values.size(),
                " values for shape ", shape, ", which needs ", shape.numel());
  Tensor result = empty(shape, dtype_of<T>());
  std::copy(values.begin(), values.end(), result.template data<T>());
  return result;
}

template <class T>
Tensor Tensor::from(const std::vector<T>& values, const Shape& shape) {
  if constexpr (std::is_same_v<T, bool>) {  // vector<bool> has no contiguous memory
    const std::unique_ptr<bool[]> copy(new bool[values.size()]);
    std::copy(values.begin(), values.end(), copy.get());
    return from(std::span<const bool>(copy.get(), values.size()), shape);
  } else {
    return from(std::span<const T>(values), shape);
  }
}

template <class T>
Tensor Tensor::from(std::initializer_list<T> values, const Shape& shape) {
  return from(std::span<const T>(values.begin(), values.size()), shape);
}

template <class T>
Tensor Tensor::external(T* data, const Shape& shape, std::shared_ptr<void> owner) {
  return external(static_cast<void*>(data), shape, dtype_of<T>(), std::move(owner));
}

template <class T>
Tensor Tensor::adopt(std::vector<T>&& values, const Shape& shape) {
  static_assert(!std::is_same_v<T, bool>, "std::vector<bool> is packed; use from()");
  TENDRIL_CHECK(static_cast<int64_t>(values.size()) == shape.numel(), "[adopt] got ", values.size(),
                " values for shape ", shape, ", which needs ", shape.numel());
  auto owner = std::make_shared<std::vector<T>>(std::move(values));
  T* data = owner->data();
  return external(data, shape, std::move(owner));
}

}  // namespace tendril
