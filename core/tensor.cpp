#include <tendril/core/tensor.h>

#include <algorithm>
#include <utility>

#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/strided.h>

namespace tendril {

struct Tensor::Impl {
  std::shared_ptr<Storage> storage;
  int64_t offset = 0;  // in elements
  Shape shape;
  Strides strides;
  int64_t numel = 0;
  DType dtype = f32;
  bool contiguous = true;
  std::shared_ptr<AutogradMeta> slot;
};

namespace {

bool dense_row_major(const Shape& shape, const Strides& strides) {
  int64_t expected = 1;
  for (int64_t i = shape.rank() - 1; i >= 0; --i) {
    if (shape[i] == 1) continue;  // the stride of a single element is never used
    if (strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

int64_t byte_count(const Shape& shape, DType dtype) {
  int64_t bytes = 0;
  TENDRIL_CHECK(!__builtin_mul_overflow(shape.numel(), size_of(dtype), &bytes), "[tensor] shape ",
                shape, " of ", dtype, " does not fit in 64 bits");
  return bytes;
}

}  // namespace

const Tensor::Impl& Tensor::impl() const {
  TENDRIL_CHECK(impl_, "[tensor] an undefined tensor was used; assign a value first");
  return *impl_;
}

Tensor::Impl& Tensor::impl() { return const_cast<Impl&>(std::as_const(*this).impl()); }

Tensor Tensor::view(std::shared_ptr<Storage> storage, int64_t offset, const Shape& shape,
                    const Strides& strides, DType dtype) {
  TENDRIL_CHECK(shape.rank() == strides.rank(), "[view] shape ", shape, " and strides ", strides,
                " differ in rank");
  TENDRIL_CHECK(storage, "[view] the storage must not be null");
  auto impl = std::make_shared<Impl>();
  impl->numel = shape.numel();
  if (impl->numel > 0) {
    int64_t low = offset, high = offset;
    bool overflow = false;
    for (int64_t i = 0; i < shape.rank(); ++i) {
      int64_t reach = 0, &end = strides[i] < 0 ? low : high;
      overflow |= __builtin_mul_overflow(strides[i], shape[i] - 1, &reach);
      overflow |= __builtin_add_overflow(end, reach, &end);
    }
    TENDRIL_CHECK(!overflow && low >= 0 && high < storage->bytes() / size_of(dtype),
                  "[view] shape ", shape, " with strides ", strides, " at offset ", offset,
                  " leaves the storage of ", storage->bytes(), " bytes");
    TENDRIL_CHECK(storage->is_on_demand() || reinterpret_cast<uintptr_t>(storage->data()) %
                                                     static_cast<uintptr_t>(size_of(dtype)) ==
                                                 0,
                  "[view] the storage is not aligned for ", dtype,
                  "; copy it to memory of its own");
  }
  impl->storage = std::move(storage);
  impl->offset = offset;
  impl->shape = shape;
  impl->strides = strides;
  impl->dtype = dtype;
  impl->contiguous = impl->numel == 0 || dense_row_major(shape, strides);
  return Tensor(std::move(impl));
}

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  return view(Storage::allocate(byte_count(shape, dtype), device), 0, shape,
              contiguous_strides(shape), dtype);
}

Tensor Tensor::external(void* data, const Shape& shape, DType dtype, std::shared_ptr<void> owner) {
  TENDRIL_CHECK(
      reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(size_of(dtype)) == 0,
      "[external] memory must be aligned to the element size; got a misaligned pointer for ",
      dtype);
  auto storage = Storage::wrap(data, byte_count(shape, dtype), Device::cpu(), std::move(owner));
  return view(std::move(storage), 0, shape, contiguous_strides(shape), dtype);
}

const Shape& Tensor::shape() const { return impl().shape; }
const Strides& Tensor::strides() const { return impl().strides; }
int64_t Tensor::size(int64_t axis) const { return shape()[normalize_axis("size", axis, rank())]; }
int64_t Tensor::numel() const { return impl().numel; }
DType Tensor::dtype() const { return impl().dtype; }
Device Tensor::device() const { return impl().storage->device(); }
bool Tensor::is_contiguous() const { return impl().contiguous; }
const std::shared_ptr<Storage>& Tensor::storage() const { return impl().storage; }
int64_t Tensor::offset() const { return impl().offset; }
const std::shared_ptr<AutogradMeta>& Tensor::autograd_slot() const { return impl().slot; }
void Tensor::set_autograd_slot(std::shared_ptr<AutogradMeta> slot) {
  impl().slot = std::move(slot);
}

void* Tensor::raw_data() const {
  return static_cast<char*>(impl().storage->data()) + impl().offset * size_of(impl().dtype);
}

void* Tensor::data_of(DType expected) const {
  TENDRIL_CHECK(dtype() == expected, "[data] the tensor holds ", dtype(), ", not ", expected,
                "; convert it with to(x, ", expected, ")");
  return raw_data();
}

Tensor Tensor::detach() const {
  auto copy = std::make_shared<Impl>(impl());
  copy->slot = nullptr;
  return Tensor(std::move(copy));
}

void Tensor::set_data(const Tensor& source) {
  const Impl& from = source.impl();
  auto slot = std::move(impl().slot);
  impl() = from;
  impl().slot = std::move(slot);
}

bool Tensor::is_unique() const { return impl_.use_count() == 1 && impl().storage.use_count() == 1; }

namespace {

template <class T>
std::vector<T> gather_values(const Tensor& x) {
  if (!x.device().is_cpu()) {  // waits for the device
    const Tensor here = Tensor::empty(x.shape(), x.dtype());
    ops::copy(here, x);
    return gather_values<T>(here);
  }
  std::vector<T> values;
  values.reserve(static_cast<size_t>(x.numel()));
  visit_dtype(x.dtype(), [&]<class S>(TypeTag<S>) {
    const S* data = x.data<S>();
    for_each_offset(x.shape(), x.strides(),
                    [&](int64_t offset) { values.push_back(ops::convert<T>(data[offset])); });
  });
  return values;
}

}  // namespace

// The conversions are compiled once here, for all element types.
#define TENDRIL_INSTANTIATE_READS(T)                                                            \
  template <>                                                                                   \
  TENDRIL_API std::vector<T> Tensor::to_vector<T>() const {                                     \
    return gather_values<T>(*this);                                                             \
  }                                                                                             \
  template <>                                                                                   \
  TENDRIL_API T Tensor::item<T>() const {                                                       \
    TENDRIL_CHECK(numel() == 1, "[item] needs a tensor with one element; got shape ", shape()); \
    return gather_values<T>(*this)[0];                                                          \
  }
TENDRIL_INSTANTIATE_READS(double)
TENDRIL_INSTANTIATE_READS(float)
TENDRIL_INSTANTIATE_READS(bfloat16)
TENDRIL_INSTANTIATE_READS(float16)
TENDRIL_INSTANTIATE_READS(int64_t)
TENDRIL_INSTANTIATE_READS(int32_t)
TENDRIL_INSTANTIATE_READS(uint8_t)
TENDRIL_INSTANTIATE_READS(bool)
#undef TENDRIL_INSTANTIATE_READS

}  // namespace tendril
