// Reading and writing at indices on a GPU. Every index is checked by the thread that uses it: one
// out of range reads as zero, writes nothing and is reported.
#include <tendril/core/ops/indexing.h>

#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/index_layout.h>
#include <tendril/core/cuda/indices.cuh>
#include <tendril/core/cuda/radix_sort.cuh>
#include <tendril/core/cuda/runtime.cuh>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::ops::cuda {
namespace {

using namespace tendril::cuda;

constexpr int64_t kMostBlocks = 1 << 20;

// A block of memory that is moved as one.
struct alignas(16) Unit16 {
  uint64_t low, high;
};

// Calls body(TypeTag<Unit>, units per element of the inner axis...) with the widest unit in which
// rows of `inner` elements can be moved: 16 bytes where size and alignment allow, else an element.
template <class Body>
void visit_units(const Tensor& x, const Tensor& out, int64_t inner, const Body& body) {
  const int64_t bytes = inner * size_of(x.dtype());
  if (bytes % 16 == 0 && aligned16(x.raw_data(), out.raw_data()))
    return body(TypeTag<Unit16>{}, bytes / 16);
  visit_bits(x.dtype(), [&]<class T>(TypeTag<T> tag) { body(tag, inner); });
}

// x (outer, size, inner), indices (count), out (outer, count, inner)
template <class Unit>
__global__ void index_select_kernel(const Unit* x, const int64_t* indices, Unit* out, int64_t total,
                                    int64_t count, int64_t size, int64_t inner, IndexFault* fault,
                                    HostText op) {
  for (int64_t p = first_index(); p < total; p += index_step()) {
    const Quotient row = divide(p, inner), block = divide(row.quotient, count);
    const int64_t index = indices[block.rest];
    if (in_range(index, size)) {
      out[p] = x[(block.quotient * size + index) * inner + row.rest];
    } else {
      out[p] = Unit{};
      fault->report(op, index, size);
    }
  }
}

// keys[j] = indices[j], or `size` for one out of range: sorted to the end and left alone there.
__global__ void row_keys_kernel(const int64_t* indices, int64_t* keys, int64_t count, int64_t size,
                                IndexFault* fault, HostText op) {
  for (int64_t j = first_index(); j < count; j += index_step()) {
    const int64_t index = indices[j];
    const bool valid = in_range(index, size);
    if (!valid) fault->report(op, index, size);
    keys[j] = valid ? index : size;
  }
}

// result (outer, size, inner) is zero; g (outer, count, inner). The thread of the first of equal
// keys sums the column of all of them, in the order of their positions.
template <class T>
__global__ void sum_rows_kernel(const T* g, const int64_t* keys, const int64_t* positions,
                                T* result, int64_t total, int64_t count, int64_t size,
                                int64_t inner) {
  for (int64_t p = first_index(); p < total; p += index_step()) {
    const Quotient row = divide(p, inner), block = divide(row.quotient, count);
    const int64_t first = block.rest, key = keys[first];
    if (key == size || (first > 0 && keys[first - 1] == key)) continue;
    compute_t<T> sum{0};
    for (int64_t j = first; j < count && keys[j] == key; ++j)
      sum +=
          static_cast<compute_t<T>>(g[(block.quotient * count + positions[j]) * inner + row.rest]);
    result[(block.quotient * size + key) * inner + row.rest] = static_cast<T>(sum);
  }
}

// x (outer, size, inner), indices and out (outer, count, inner)
template <class T>
__global__ void gather_kernel(const T* x, const int64_t* indices, T* out, int64_t total,
                              int64_t count, int64_t size, int64_t inner, IndexFault* fault,
                              HostText op) {
  for (int64_t p = first_index(); p < total; p += index_step()) {
    const Quotient row = divide(p, inner);
    const int64_t outer = divide(row.quotient, count).quotient, index = indices[p];
    if (in_range(index, size)) {
      out[p] = x[(outer * size + index) * inner + row.rest];
    } else {
      out[p] = T{};
      fault->report(op, index, size);
    }
  }
}

// keys[p] = where element p of the source goes in the result (outer, size, inner), or `end`.
__global__ void target_keys_kernel(const int64_t* indices, int64_t* keys, int64_t total,
                                   int64_t count, int64_t size, int64_t inner, int64_t end,
                                   IndexFault* fault, HostText op) {
  for (int64_t p = first_index(); p < total; p += index_step()) {
    const Quotient row = divide(p, inner);
    const int64_t outer = divide(row.quotient, count).quotient, index = indices[p];
    const bool valid = in_range(index, size);
    if (!valid) fault->report(op, index, size);
    keys[p] = valid ? (outer * size + index) * inner + row.rest : end;
  }
}

// The thread of the first of equal keys adds all of them to the element they meet at.
template <class T>
__global__ void add_runs_kernel(const T* source, const int64_t* keys, const int64_t* positions,
                                T* result, int64_t total, int64_t end) {
  for (int64_t first = first_index(); first < total; first += index_step()) {
    const int64_t key = keys[first];
    if (key == end || (first > 0 && keys[first - 1] == key)) continue;
    T sum = result[key];
    for (int64_t p = first; p < total && keys[p] == key; ++p)
      sum = wrapping_sum(sum, source[positions[p]]);
    result[key] = sum;
  }
}

template <class T>
__global__ void set_ones_kernel(T* out, const int64_t* indices, int64_t count, int64_t classes,
                                T one, IndexFault* fault, HostText op) {
  for (int64_t i = first_index(); i < count; i += index_step()) {
    const int64_t index = indices[i];
    if (in_range(index, classes))
      out[i * classes + index] = one;
    else
      fault->report(op, index, classes);
  }
}

unsigned int blocks_of(int64_t total) { return blocks_for(total, kThreads, kMostBlocks); }

}  // namespace

void index_select(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& out) {
  const Around source(x.shape(), axis);
  const int64_t count = indices.numel();
  visit_units(x, out, source.inner, [&]<class Unit>(TypeTag<Unit>, int64_t inner) {
    const int64_t total = source.outer * count * inner;
    index_select_kernel<<<blocks_of(total), kThreads, 0, stream(x.device())>>>(
        static_cast<const Unit*>(x.raw_data()), indices.data<int64_t>(),
        static_cast<Unit*>(out.raw_data()), total, count, source.size, inner,
        index_fault(x.device()), "index_select");
  });
  TENDRIL_CUDA_CHECK_LAUNCH("index_select");
}

void index_select_backward(const Tensor& g, int64_t axis, const Tensor& indices,
                           const Tensor& result) {
  const Around target(result.shape(), axis);
  const Device device = g.device();
  const int64_t count = indices.numel(), total = g.numel();
  fill(result, 0.0);
  if (total == 0) return;
  const Tensor keys = Tensor::empty({count}, i64, device);
  row_keys_kernel<<<blocks_of(count), kThreads, 0, stream(device)>>>(
      indices.data<int64_t>(), keys.data<int64_t>(), count, target.size, index_fault(device),
      "index_select");
  TENDRIL_CUDA_CHECK_LAUNCH("index_select");
  const Order order = order_of(keys, static_cast<uint64_t>(target.size));
  visit_floating("index_select", g.dtype(), [&]<class T>(TypeTag<T>) {
    sum_rows_kernel<<<blocks_of(total), kThreads, 0, stream(device)>>>(
        g.data<T>(), order.keys.data<int64_t>(), order.positions.data<int64_t>(), result.data<T>(),
        total, count, target.size, target.inner);
  });
  TENDRIL_CUDA_CHECK_LAUNCH("index_select");
}

void gather(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& out) {
  const Around source(x.shape(), axis), target(out.shape(), axis);
  const int64_t total = out.numel();
  visit_bits(x.dtype(), [&]<class T>(TypeTag<T>) {
    gather_kernel<<<blocks_of(total), kThreads, 0, stream(x.device())>>>(
        static_cast<const T*>(x.raw_data()), indices.data<int64_t>(),
        static_cast<T*>(out.raw_data()), total, target.size, source.size, source.inner,
        index_fault(x.device()), "gather");
  });
  TENDRIL_CUDA_CHECK_LAUNCH("gather");
}

void scatter_add(const Tensor& result, int64_t axis, const Tensor& indices, const Tensor& source) {
  const Around target(result.shape(), axis), from(source.shape(), axis);
  const Device device = result.device();
  const int64_t total = source.numel(), end = result.numel();
  const Tensor keys = Tensor::empty({total}, i64, device);
  target_keys_kernel<<<blocks_of(total), kThreads, 0, stream(device)>>>(
      indices.data<int64_t>(), keys.data<int64_t>(), total, from.size, target.size, target.inner,
      end, index_fault(device), "scatter_add");
  TENDRIL_CUDA_CHECK_LAUNCH("scatter_add");
  const Order order = order_of(keys, static_cast<uint64_t>(end));
  visit_summable(result.dtype(), [&]<class T>(TypeTag<T>) {
    add_runs_kernel<<<blocks_of(total), kThreads, 0, stream(device)>>>(
        source.data<T>(), order.keys.data<int64_t>(), order.positions.data<int64_t>(),
        result.data<T>(), total, end);
  });
  TENDRIL_CUDA_CHECK_LAUNCH("scatter_add");
}

void set_ones(const Tensor& out, const Tensor& indices, int64_t classes) {
  const int64_t count = indices.numel();
  visit_dtype(out.dtype(), [&]<class T>(TypeTag<T>) {
    set_ones_kernel<<<blocks_of(count), kThreads, 0, stream(out.device())>>>(
        out.data<T>(), indices.data<int64_t>(), count, classes, convert<T>(1.0),
        index_fault(out.device()), "one_hot");
  });
  TENDRIL_CUDA_CHECK_LAUNCH("one_hot");
}

}  // namespace tendril::ops::cuda
