#include <tendril/core/ops/indexing.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include <tendril/core/creation.h>
#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/index_layout.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace {

constexpr int64_t kChunk = 16384;  // elements per parallel piece
constexpr int64_t kBlock = 256;    // elements summed at a time, on the stack

int64_t pieces(int64_t elements_each) {
  return std::max<int64_t>(1, kChunk / std::max<int64_t>(1, elements_each));
}

void require_one_axis(const Tensor& indices) {
  TENDRIL_CHECK(indices.rank() == 1, "[index_select] needs 1-D indices; got shape ",
                indices.shape(), "; use gather or embedding for more axes");
}

void require_alike(const char* op, const Tensor& x, int64_t axis, const Tensor& indices) {
  Shape expected = indices.shape();
  if (expected.rank() == x.rank()) expected[axis] = x.shape()[axis];
  TENDRIL_CHECK(expected == x.shape(), "[", op, "] shapes must agree outside axis ", axis,
                "; got a tensor of shape ", x.shape(), " and indices of shape ", indices.shape());
}

}  // namespace

namespace cpu {

void require_in_range(const char* op, const Tensor& indices, int64_t size) {
  const int64_t* data = indices.data<int64_t>();
  parallel_for(indices.numel(), kChunk, [&](int64_t begin, int64_t end) {
    bool valid = true;
    for (int64_t i = begin; i < end; ++i)
      valid &= static_cast<uint64_t>(data[i]) < static_cast<uint64_t>(size);
    if (valid) return;
    for (int64_t i = begin; i < end; ++i)
      TENDRIL_CHECK(data[i] >= 0 && data[i] < size, "[", op, "] index out of range; got ", data[i],
                    " for an axis of size ", size, "; indices must be in [0, ", size, ")");
  });
}

// x (outer, size, inner), out (outer, count, inner), both dense
void index_select(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& out) {
  const Around source(x.shape(), axis);
  const int64_t count = indices.numel();
  const int64_t* rows = indices.data<int64_t>();
  visit_bits(x.dtype(), [&]<class T>(TypeTag<T>) {
    const T* from = static_cast<const T*>(x.raw_data());
    T* to = static_cast<T*>(out.raw_data());
    parallel_for(source.outer * count, pieces(source.inner), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = from + (i / count * source.size + rows[i % count]) * source.inner;
        if (source.inner == 1)
          to[i] = *row;
        else
          std::memcpy(to + i * source.inner, row, static_cast<size_t>(source.inner) * sizeof(T));
      }
    });
  });
}

// The positions of each target row in `indices`, in their order: a stable counting sort.
// Row i has positions order[first[i]] .. order[first[i + 1] - 1].
struct Sources {
  std::vector<int64_t> first, order;

  Sources(const Tensor& indices, int64_t size)
      : first(static_cast<size_t>(size) + 1), order(static_cast<size_t>(indices.numel())) {
    const std::span<const int64_t> rows = indices.span<int64_t>();
    for (int64_t row : rows) ++first[static_cast<size_t>(row) + 1];
    for (size_t i = 1; i < first.size(); ++i) first[i] += first[i - 1];
    std::vector<int64_t> next(first.begin(), first.end() - 1);
    for (size_t i = 0; i < rows.size(); ++i)
      order[static_cast<size_t>(next[static_cast<size_t>(rows[i])]++)] = static_cast<int64_t>(i);
  }
};

// g (outer, count, inner), result (outer, size, inner), both dense. Threads share the target rows.
void index_select_backward(const Tensor& g, int64_t axis, const Tensor& indices,
                           const Tensor& result) {
  const Around target(result.shape(), axis);
  const int64_t count = indices.numel(), inner = target.inner;
  const Sources sources(indices, target.size);
  visit_floating("index_select", g.dtype(), [&]<class T>(TypeTag<T>) {
    const T* from = g.data<T>();
    T* to = result.data<T>();
    parallel_for(target.outer * target.size, pieces(inner), [&](int64_t begin, int64_t end) {
      compute_t<T> total[kBlock];
      for (int64_t i = begin; i < end; ++i) {
        const T* block = from + i / target.size * count * inner;
        const auto row = static_cast<size_t>(i % target.size);
        for (int64_t column = 0; column < inner; column += kBlock) {
          const int64_t width = std::min(kBlock, inner - column);
          std::fill_n(total, width, compute_t<T>{0});
          for (int64_t j = sources.first[row]; j < sources.first[row + 1]; ++j) {
            const T* addend = block + sources.order[static_cast<size_t>(j)] * inner + column;
            for (int64_t k = 0; k < width; ++k) total[k] += static_cast<compute_t<T>>(addend[k]);
          }
          T* sums = to + i * inner + column;
          for (int64_t k = 0; k < width; ++k) sums[k] = static_cast<T>(total[k]);
        }
      }
    });
  });
}

// x (outer, size, inner), indices and out (outer, count, inner), all dense
void gather(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& out) {
  const Around source(x.shape(), axis), target(out.shape(), axis);
  const int64_t inner = source.inner;
  const int64_t* rows = indices.data<int64_t>();
  visit_bits(x.dtype(), [&]<class T>(TypeTag<T>) {
    const T* from = static_cast<const T*>(x.raw_data());
    T* to = static_cast<T*>(out.raw_data());
    parallel_for(target.outer * target.size, pieces(inner), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* block = from + i / target.size * source.size * inner;
        for (int64_t k = 0; k < inner; ++k)
          to[i * inner + k] = block[rows[i * inner + k] * inner + k];
      }
    });
  });
}

// result (outer, size, inner) += source (outer, count, inner) at indices. A thread owns whole
// columns of the result, so it meets the sources of an element in their order.
void scatter_add(const Tensor& result, int64_t axis, const Tensor& indices, const Tensor& source) {
  const Around target(result.shape(), axis), from(source.shape(), axis);
  const int64_t inner = target.inner, blocks = (inner + kBlock - 1) / kBlock;
  const int64_t* rows = indices.data<int64_t>();
  visit_summable(result.dtype(), [&]<class T>(TypeTag<T>) {
    T* to = result.data<T>();
    const T* addends = source.data<T>();
    const int64_t chunk = pieces(from.size * std::min(inner, kBlock));
    parallel_for(target.outer * blocks, chunk, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t outer = i / blocks, column = i % blocks * kBlock;
        const int64_t width = std::min(kBlock, inner - column);
        T* block = to + outer * target.size * inner + column;
        for (int64_t j = 0; j < from.size; ++j) {
          const int64_t first = (outer * from.size + j) * inner + column;
          for (int64_t k = 0; k < width; ++k) {
            T& element = block[rows[first + k] * inner + k];
            element = wrapping_sum(element, addends[first + k]);
          }
        }
      }
    });
  });
}

// Sets out[i][indices[i]] to 1.
void set_ones(const Tensor& out, const Tensor& indices, int64_t classes) {
  const std::span<const int64_t> rows = indices.span<int64_t>();
  visit_dtype(out.dtype(), [&]<class T>(TypeTag<T>) {
    T* data = out.data<T>();
    for (size_t i = 0; i < rows.size(); ++i)
      data[static_cast<int64_t>(i) * classes + rows[i]] = convert<T>(1.0);
  });
}

}  // namespace cpu

namespace cuda {  // indexing.cu

void index_select(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& out);
void index_select_backward(const Tensor& g, int64_t axis, const Tensor& indices,
                           const Tensor& result);
void gather(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& out);
void scatter_add(const Tensor& result, int64_t axis, const Tensor& indices, const Tensor& source);
void set_ones(const Tensor& out, const Tensor& indices, int64_t classes);

}  // namespace cuda

Tensor checked_indices(const char* op, const Tensor& indices, int64_t size) {
  visit_index(op, indices.dtype(), [](auto) {});
  const Tensor dense = contiguous(cast(indices, i64));
  if (dense.device().is_cpu()) cpu::require_in_range(op, dense, size);
  return dense;
}

Tensor index_select(const Tensor& x, int64_t axis, const Tensor& indices) {
  axis = normalize_axis("index_select", axis, x.rank());
  require_one_axis(indices);
  require_same_device("index_select", x, indices);
  const Tensor rows = checked_indices("index_select", indices, x.shape()[axis]);
  Shape shape = x.shape();
  shape[axis] = indices.numel();
  const Tensor result = Tensor::empty(shape, x.dtype(), x.device());
  const Tensor dense = contiguous(x);
  if (result.numel() > 0) TENDRIL_ON_DEVICE(x, index_select(dense, axis, rows, result));
  return result;
}

Tensor index_select_backward(const Tensor& g, const Shape& shape, int64_t axis,
                             const Tensor& indices) {
  axis = normalize_axis("index_select", axis, shape.rank());
  require_one_axis(indices);
  const Tensor rows = checked_indices("index_select", indices, shape[axis]);
  const Tensor result = Tensor::empty(shape, g.dtype(), g.device());
  const Tensor dense = contiguous(g);
  if (result.numel() > 0) TENDRIL_ON_DEVICE(g, index_select_backward(dense, axis, rows, result));
  return result;
}

Tensor gather(const Tensor& x, int64_t axis, const Tensor& indices) {
  axis = normalize_axis("gather", axis, x.rank());
  require_same_device("gather", x, indices);
  require_alike("gather", x, axis, indices);
  const Tensor rows = checked_indices("gather", indices, x.shape()[axis]);
  const Tensor result = Tensor::empty(indices.shape(), x.dtype(), x.device());
  const Tensor dense = contiguous(x);
  if (result.numel() > 0) TENDRIL_ON_DEVICE(x, gather(dense, axis, rows, result));
  return result;
}

Tensor gather_backward(const Tensor& g, const Shape& shape, int64_t axis, const Tensor& indices) {
  return scatter_add(zeros(shape, g.dtype(), g.device()), axis, indices, g);
}

Tensor scatter_add(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& source) {
  axis = normalize_axis("scatter_add", axis, x.rank());
  require_same_device("scatter_add", x, indices, source);
  require_alike("scatter_add", x, axis, indices);
  TENDRIL_CHECK(source.shape() == indices.shape() && source.dtype() == x.dtype(),
                "[scatter_add] the source needs the shape of the indices and the dtype of x; got ",
                source.shape(), " ", source.dtype(), " for ", indices.shape(), " ", x.dtype());
  TENDRIL_CHECK(x.dtype() != bool_, "[scatter_add] cannot add bools; cast them with to(x, i64)");
  const Tensor rows = checked_indices("scatter_add", indices, x.shape()[axis]);
  const DType dtype = accumulate_dtype(x.dtype());
  const Tensor result = dtype == x.dtype() ? clone(x) : contiguous(cast(x, dtype));
  const Tensor dense = contiguous(cast(source, dtype));
  if (dense.numel() > 0) TENDRIL_ON_DEVICE(x, scatter_add(result, axis, rows, dense));
  return cast(result, x.dtype());
}

Tensor one_hot(const Tensor& indices, int64_t classes, DType dtype) {
  TENDRIL_CHECK(classes >= 0, "[one_hot] classes must not be negative; got ", classes);
  const Tensor rows = checked_indices("one_hot", indices, classes);
  Shape shape = indices.shape();
  shape.push_back(classes);
  const Tensor result = zeros(shape, dtype, indices.device());
  if (result.numel() > 0) TENDRIL_ON_DEVICE(indices, set_ones(result, rows, classes));
  return result;
}

}  // namespace tendril::ops
