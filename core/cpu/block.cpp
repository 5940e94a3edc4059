#include <tendril/core/cpu/block.h>

#include <algorithm>

#include <tendril/core/cpu/half_convert.h>

namespace tendril::cpu {
namespace {

template <class T, class S>
void convert_dense(const S* from, T* to, int64_t n) {
  if constexpr ((is_half<S> && std::is_same_v<T, float>) ||
                (is_half<T> && std::is_same_v<S, float>)) {
    convert_run(from, to, n);
  } else {
    for (int64_t i = 0; i < n; ++i) {
      if constexpr (std::is_same_v<T, bool>)
        to[i] = from[i] != S(0);
      else if constexpr (is_half<T>)
        to[i] = T(static_cast<float>(from[i]));
      else
        to[i] = static_cast<T>(from[i]);
    }
  }
}

// Drops size-1 axes and merges an axis with the next one when together they are one arithmetic
// sequence.
void merge_axes(Shape& shape, Strides& strides) {
  Shape merged_shape;
  Strides merged_strides;
  for (int64_t i = 0; i < shape.rank(); ++i) {
    if (shape[i] == 1) continue;
    const int64_t last = merged_shape.rank() - 1;
    if (last >= 0 && merged_strides[last] == strides[i] * shape[i]) {
      merged_shape[last] *= shape[i];
      merged_strides[last] = strides[i];
    } else {
      merged_shape.push_back(shape[i]);
      merged_strides.push_back(strides[i]);
    }
  }
  if (merged_shape.empty()) merged_shape = {1}, merged_strides = {1};
  shape = merged_shape;
  strides = merged_strides;
}

template <class T, class S>
void gather(const S* data, const Shape& shape, const Strides& strides, int64_t begin, int64_t n,
            T* out) {
  const int64_t last = shape.rank() - 1;
  const int64_t inner = shape[last], step = strides[last];
  Shape index = Shape::filled(last, 0);
  int64_t position = begin % inner, outer = begin / inner, offset = 0;
  for (int64_t axis = last - 1; axis >= 0; --axis) {
    index[axis] = outer % shape[axis];
    offset += index[axis] * strides[axis];
    outer /= shape[axis];
  }
  while (true) {
    const int64_t run = std::min(n, inner - position);
    const S* source = data + offset + position * step;
    if (step == 1) {
      convert_dense(source, out, run);
    } else if (step == 0) {
      std::fill_n(out, run, static_cast<T>(*source));
    } else {
      for (int64_t i = 0; i < run; ++i) out[i] = static_cast<T>(source[i * step]);
    }
    n -= run;
    if (n == 0) return;
    out += run;
    position = 0;
    for (int64_t axis = last - 1; axis >= 0; --axis) {
      offset += strides[axis];
      if (++index[axis] < shape[axis]) break;
      offset -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

}  // namespace

BlockReader::BlockReader(const Tensor& tensor, const Shape& broadcast_to)
    : data_(tensor.raw_data()),
      dtype_(tensor.dtype()),
      contiguous_(tensor.is_contiguous() && tensor.numel() == broadcast_to.numel()),
      shape_(broadcast_to),
      strides_(broadcast_strides(tensor.shape(), tensor.strides(), broadcast_to)) {
  if (!contiguous_) merge_axes(shape_, strides_);
}

template <class T>
const T* BlockReader::read(int64_t begin, int64_t n, T* buffer) const {
  if (is_scalar_) {
    std::fill_n(buffer, n, static_cast<T>(scalar_));
    return buffer;
  }
  if (contiguous_ && dtype_ == dtype_of<T>()) return static_cast<const T*>(data_) + begin;
  visit_dtype(dtype_, [&]<class S>(TypeTag<S>) {
    const S* data = static_cast<const S*>(data_);
    if (contiguous_)
      convert_dense(data + begin, buffer, n);
    else
      gather(data, shape_, strides_, begin, n, buffer);
  });
  return buffer;
}

template <class T>
void write_block(const Tensor& out, int64_t begin, int64_t n, const T* values) {
  visit_dtype(out.dtype(), [&]<class S>(TypeTag<S>) {
    S* data = static_cast<S*>(out.raw_data()) + begin;
    if (static_cast<const void*>(data) == static_cast<const void*>(values)) return;
    convert_dense(values, data, n);
  });
}

template const float* BlockReader::read(int64_t, int64_t, float*) const;
template const double* BlockReader::read(int64_t, int64_t, double*) const;
template const int64_t* BlockReader::read(int64_t, int64_t, int64_t*) const;
template void write_block(const Tensor&, int64_t, int64_t, const float*);
template void write_block(const Tensor&, int64_t, int64_t, const double*);
template void write_block(const Tensor&, int64_t, int64_t, const int64_t*);

}  // namespace tendril::cpu
