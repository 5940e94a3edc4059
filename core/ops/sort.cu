// Sorting lines of a tensor on a GPU: keys and positions are gathered into dense runs, sorted
// stably, and the first k of each written where they belong.
#include <tendril/core/ops/sort.h>

#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/index_layout.h>
#include <tendril/core/ops/sort_key.h>
#include <tendril/core/cuda/indices.cuh>
#include <tendril/core/cuda/layout.cuh>
#include <tendril/core/cuda/radix_sort.cuh>

namespace tendril::ops::cuda {
namespace {

using namespace tendril::cuda;

constexpr int64_t kMostBlocks = 1 << 20;

// A tensor with `axis` moved to the end: line after line.
Layout lines_of(const Tensor& x, int64_t axis) {
  Shape shape = x.shape(), strides = x.strides();
  if (!shape.empty()) {
    const int64_t size = shape[axis], step = strides[axis];
    shape.erase(axis);
    strides.erase(axis);
    shape.push_back(size);
    strides.push_back(step);
  }
  return {shape, strides};
}

template <class T>
__global__ void keys_kernel(const T* x, Layout lines, SortKey<T>* keys, int64_t* positions,
                            int64_t total, int64_t n, SortKey<T> flip) {
  for (int64_t p = first_index(); p < total; p += index_step()) {
    keys[p] = sort_key(x[lines.offset(p)]) ^ flip;
    positions[p] = divide(p, n).rest;
  }
}

// sorted (lines, n); values (may be null) and indices take the first k of each line.
template <class Bits>
__global__ void first_kernel(const Bits* x, Layout from, const int64_t* sorted, Bits* values,
                             int64_t* indices, Layout to, int64_t total, int64_t n, int64_t k) {
  for (int64_t p = first_index(); p < total; p += index_step()) {
    const Quotient place = divide(p, k);  // line, rank
    const int64_t line = place.quotient * n, index = sorted[line + place.rest];
    const int64_t at = to.offset(p);
    indices[at] = index;
    if (values) values[at] = x[from.offset(line + index)];
  }
}

// dx (lines, n) is zero; indices are different within a line.
template <class Bits>
__global__ void scatter_kernel(const Bits* g, Layout from, const int64_t* indices, Layout places,
                               Bits* dx, Layout to, int64_t total, int64_t n, int64_t k,
                               IndexFault* fault, HostText op) {
  for (int64_t p = first_index(); p < total; p += index_step()) {
    const int64_t index = indices[places.offset(p)];
    if (in_range(index, n))
      dx[to.offset(divide(p, k).quotient * n + index)] = g[from.offset(p)];
    else
      fault->report(op, index, n);
  }
}

unsigned int blocks_of(int64_t total) { return blocks_for(total, kThreads, kMostBlocks); }

}  // namespace

// values may be undefined.
void sort_lines(const Tensor& x, int64_t axis, int64_t n, int64_t k, bool descending,
                const Tensor& values, const Tensor& indices) {
  if (indices.numel() == 0) return;
  const Device device = x.device();
  const int64_t total = x.numel();
  const Layout from = lines_of(x, axis), to = lines_of(indices, axis);
  const Tensor positions = Tensor::empty({total}, i64, device);
  const Tensor sorted = Tensor::empty({total}, i64, device);
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    using Key = SortKey<T>;
    const DType key_dtype = sizeof(Key) == 8 ? i64 : i32;  // of the same size
    const Tensor keys = Tensor::empty({total}, key_dtype, device);
    const Tensor sorted_keys = Tensor::empty({total}, key_dtype, device);
    keys_kernel<<<blocks_of(total), kThreads, 0, stream(device)>>>(
        x.data<T>(), from, static_cast<Key*>(keys.raw_data()), positions.data<int64_t>(), total, n,
        descending ? static_cast<Key>(-1) : Key{0});
    TENDRIL_CUDA_CHECK_LAUNCH("sort");
    sort_runs(device, static_cast<const Key*>(keys.raw_data()),
              static_cast<Key*>(sorted_keys.raw_data()), positions.data<int64_t>(),
              sorted.data<int64_t>(), n, total / n, static_cast<int>(8 * sizeof(Key)));
  });
  visit_bits(x.dtype(), [&]<class Bits>(TypeTag<Bits>) {
    first_kernel<<<blocks_of(indices.numel()), kThreads, 0, stream(device)>>>(
        static_cast<const Bits*>(x.raw_data()), from, sorted.data<int64_t>(),
        values.defined() ? static_cast<Bits*>(values.raw_data()) : nullptr, indices.data<int64_t>(),
        to, indices.numel(), n, k);
  });
  TENDRIL_CUDA_CHECK_LAUNCH("sort");
}

Tensor sort_backward(const Tensor& g, const Tensor& indices, const Shape& x_shape, int64_t axis) {
  visit_floating("sort", g.dtype(), [](auto) {});
  const Tensor dx = Tensor::empty(x_shape, g.dtype(), g.device());
  fill(dx, 0.0);
  const int64_t total = g.numel();
  if (total == 0) return dx;
  const int64_t k = g.rank() == 0 ? 1 : g.shape()[axis], n = x_shape.empty() ? 1 : x_shape[axis];
  visit_bits(g.dtype(), [&]<class Bits>(TypeTag<Bits>) {
    scatter_kernel<<<blocks_of(total), kThreads, 0, stream(g.device())>>>(
        static_cast<const Bits*>(g.raw_data()), lines_of(g, axis), indices.data<int64_t>(),
        lines_of(indices, axis), static_cast<Bits*>(dx.raw_data()), lines_of(dx, axis), total, n, k,
        index_fault(g.device()), "sort");
  });
  TENDRIL_CUDA_CHECK_LAUNCH("sort");
  return dx;
}

}  // namespace tendril::ops::cuda
