#include <tendril/core/ops/sort.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/reduce_layout.h>
#include <tendril/core/ops/sort_key.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace cpu {
namespace {

// The numbers are mapped to unsigned keys of the same order; keys and positions then sort as
// integers.
template <class Key>
struct Entry {
  Key key;
  int64_t index;
  // Positions break ties: any sort by this order is stable.
  bool operator<(const Entry& other) const {
    return key != other.key ? key < other.key : index < other.index;
  }
};

constexpr int64_t kRadixFrom = 512;  // shorter lines sort faster by comparing

// Least significant byte first; a byte that all keys share costs one pass of counting. The result
// may end up in `spare`; returns where.
template <class Key>
Entry<Key>* radix_sort(Entry<Key>* entries, Entry<Key>* spare, int64_t n) {
  for (int shift = 0; shift < static_cast<int>(8 * sizeof(Key)); shift += 8) {
    int64_t counts[256] = {};
    for (int64_t i = 0; i < n; ++i) ++counts[entries[i].key >> shift & 255];
    if (counts[entries[0].key >> shift & 255] == n) continue;
    int64_t start = 0;
    for (int64_t& count : counts) start += std::exchange(count, start);
    for (int64_t i = 0; i < n; ++i) spare[counts[entries[i].key >> shift & 255]++] = entries[i];
    std::swap(entries, spare);
  }
  return entries;
}

// The first k of n entries in order, k <= n.
template <class Key>
const Entry<Key>* first_in_order(Entry<Key>* entries, Entry<Key>* spare, int64_t n, int64_t k) {
  if (k < n / 8)
    std::partial_sort(entries, entries + k, entries + n);
  else if (n < kRadixFrom)
    std::sort(entries, entries + n);
  else
    return radix_sort(entries, spare, n);
  return entries;
}

// Where the lines along an axis start and how far apart their elements are.
struct Lines {
  Shape shape, strides;
  int64_t step;
  Lines(const Tensor& x, int64_t axis) : shape(x.shape()), strides(x.strides()), step(0) {
    if (shape.empty()) return;
    step = strides[axis];
    shape.erase(axis);
    strides.erase(axis);
  }
  int64_t start(int64_t line) const { return offset_of(line, shape, strides); }
};

}  // namespace

// values may be undefined.
void sort_lines(const Tensor& x, int64_t axis, int64_t n, int64_t k, bool descending,
                const Tensor& values, const Tensor& indices) {
  if (indices.numel() == 0) return;
  const Lines from(x, axis), to(indices, axis);
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    using Key = SortKey<T>;
    const Key flip = descending ? static_cast<Key>(-1) : Key{0};
    const T* const unsorted = x.data<T>();
    parallel_for(
        from.shape.numel(), std::max<int64_t>(1, 2048 / n), [&](int64_t begin, int64_t end) {
          const ThreadScratch<Entry<Key>> entry_memory(n), spare(n);
          Entry<Key>* const entries = entry_memory.get();
          for (int64_t line = begin; line < end; ++line) {
            const T* source = unsorted + from.start(line);
            for (int64_t i = 0; i < n; ++i)
              entries[i] = {sort_key(source[i * from.step]) ^ flip, i};
            const Entry<Key>* sorted = first_in_order(entries, spare.get(), n, k);
            const int64_t start = to.start(line);
            for (int64_t i = 0; i < k; ++i) {
              indices.data<int64_t>()[start + i * to.step] = sorted[i].index;
              if (values.defined())
                values.data<T>()[start + i * to.step] = source[sorted[i].index * from.step];
            }
          }
        });
  });
}

Tensor sort_backward(const Tensor& g, const Tensor& indices, const Shape& x_shape, int64_t axis) {
  const Tensor dx = Tensor::empty(x_shape, g.dtype());
  std::memset(dx.raw_data(), 0, static_cast<size_t>(dx.nbytes()));
  if (g.numel() == 0) return dx;
  const Lines from(g, axis), positions(indices, axis), to(dx, axis);
  const int64_t k = g.rank() == 0 ? 1 : g.shape()[axis], n = x_shape.empty() ? 1 : x_shape[axis];
  const int64_t* index = indices.data<int64_t>();
  for_each_offset(indices.shape(), indices.strides(), [&](int64_t offset) {
    TENDRIL_CHECK(index[offset] >= 0 && index[offset] < n, "[sort] index ", index[offset],
                  " is out of range for an axis of ", n);
  });
  visit_floating("sort", g.dtype(), [&]<class T>(TypeTag<T>) {
    parallel_for(from.shape.numel(), std::max<int64_t>(1, (1 << 14) / k),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t line = begin; line < end; ++line) {
                     const T* source = g.data<T>() + from.start(line);
                     const int64_t* place = index + positions.start(line);
                     T* out = dx.data<T>() + to.start(line);
                     for (int64_t i = 0; i < k; ++i)
                       out[place[i * positions.step] * to.step] = source[i * from.step];
                   }
                 });
  });
  return dx;
}

}  // namespace cpu

namespace cuda {  // sort.cu

void sort_lines(const Tensor& x, int64_t axis, int64_t n, int64_t k, bool descending,
                const Tensor& values, const Tensor& indices);
Tensor sort_backward(const Tensor& g, const Tensor& indices, const Shape& x_shape, int64_t axis);

}  // namespace cuda

namespace {

// A number without axes counts as one line of one element.
struct Line {
  int64_t axis, size;
  Line(const char* op, const Shape& shape, int64_t along)
      : axis(normalize_axis(op, along, std::max<int64_t>(shape.rank(), 1))),
        size(shape.empty() ? 1 : shape[axis]) {}
};

void run(const Tensor& x, const Line& line, int64_t k, bool descending, const Tensor& values,
         const Tensor& indices) {
  TENDRIL_ON_DEVICE(x, sort_lines(x, line.axis, line.size, k, descending, values, indices));
}

}  // namespace

Sorted sort(const Tensor& x, int64_t axis, bool descending) {
  const Line line("sort", x.shape(), axis);
  const Sorted result{Tensor::empty(x.shape(), x.dtype(), x.device()),
                      Tensor::empty(x.shape(), i64, x.device())};
  run(x, line, line.size, descending, result.values, result.indices);
  return result;
}

Tensor argsort(const Tensor& x, int64_t axis, bool descending) {
  const Line line("argsort", x.shape(), axis);
  const Tensor indices = Tensor::empty(x.shape(), i64, x.device());
  run(x, line, line.size, descending, Tensor(), indices);
  return indices;
}

Sorted topk(const Tensor& x, int64_t k, int64_t axis, bool largest) {
  const Line line("topk", x.shape(), axis);
  TENDRIL_CHECK(k >= 0 && k <= line.size,
                "[topk] k must be between 0 and the size of the axis; got k = ", k, " for axis ",
                line.axis, " of shape ", x.shape());
  Shape shape = x.shape();
  if (shape.empty())
    TENDRIL_CHECK(k == 1, "[topk] a number without axes has one value; got k = ", k);
  else
    shape[line.axis] = k;
  const Sorted result{Tensor::empty(shape, x.dtype(), x.device()),
                      Tensor::empty(shape, i64, x.device())};
  run(x, line, k, largest, result.values, result.indices);
  return result;
}

Tensor sort_backward(const Tensor& g, const Tensor& indices, const Shape& x_shape, int64_t axis) {
  const Line line("sort", x_shape, axis);
  require_same_device("sort", g, indices);
  Shape rest = x_shape, got = g.shape();
  if (got.rank() == rest.rank() && !rest.empty()) rest.erase(line.axis), got.erase(line.axis);
  TENDRIL_CHECK(g.shape() == indices.shape() && got == rest && indices.dtype() == i64,
                "[sort] gradient and i64 indices must be shaped like the result; got ", g.shape(),
                " and ", indices.shape(), " ", indices.dtype(), " for an input of shape ", x_shape);
  return TENDRIL_ON_DEVICE(g, sort_backward(g, indices, x_shape, line.axis));
}

}  // namespace tendril::ops
