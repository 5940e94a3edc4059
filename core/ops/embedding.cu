// Forward copies rows. Backward sums the rows of g that share an index, in a fixed order and
// without atomics:
//   1. sort the positions by index, stably;
//   2. cut each run of equal indices into pieces of at most kPiece positions;
//   3. a warp per piece and stretch of channels sums the piece's rows of g. The sum of a run of one
//      piece goes straight to the table, others to a buffer;
//   4. a warp per longer run sums its pieces: a token that makes up a tenth of the batch costs
//      hundreds of steps in a row instead of thousands.
#include <bit>
#include <optional>

#include <thrust/iterator/counting_iterator.h>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_select.cuh>

#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/cuda/block.cuh>
#include <tendril/core/cuda/runtime.cuh>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::ops::cuda {
namespace {

using tendril::cuda::aligned16;
using tendril::cuda::blocks_for;
using tendril::cuda::HostText;
using tendril::cuda::IndexFault;
using tendril::cuda::kVector;
using tendril::cuda::kWarp;
using tendril::cuda::load_vector;
using tendril::cuda::store_vector;
using tendril::cuda::Vector;

constexpr int kThreads = 256;
constexpr int kAhead = 4;  // rows on their way to a thread at a time

// ---------------------------------------------------------------- forward

// y (rows, count) = table[index], a warp per row, in units of U: 16 bytes where the layout allows,
// else an element.
template <class U, class I>
__global__ void __launch_bounds__(kThreads)
    lookup_kernel(const I* indices, const U* table, U* y, int64_t rows, int64_t count,
                  int64_t row_stride, int64_t step, int64_t classes, HostText op,
                  IndexFault* fault) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (row >= rows) return;
  const int64_t index = indices[row];
  const bool valid = index >= 0 && index < classes;
  if (!valid && lane == 0) fault->report(op, index, classes);
  const U* from = table + (valid ? index : 0) * row_stride;
  U* to = y + row * count;
#pragma unroll 4
  for (int64_t i = lane; i < count; i += kWarp) to[i] = valid ? from[i * step] : U{};
}

template <class U>
void lookup(const Tensor& indices, const Tensor& weight, const Tensor& y) {
  const int64_t per = static_cast<int64_t>(sizeof(U)) / size_of(weight.dtype());
  const int64_t rows = indices.numel(), count = weight.size(1) / per;
  visit_index("embedding", indices.dtype(), [&]<class I>(TypeTag<I>) {
    lookup_kernel<<<blocks_for(rows, kThreads / kWarp), kThreads, 0,
                    tendril::cuda::stream(y.device())>>>(
        indices.data<I>(), static_cast<const U*>(weight.raw_data()), static_cast<U*>(y.raw_data()),
        rows, count, weight.strides()[0] / per, per > 1 ? 1 : weight.strides()[1], weight.size(0),
        "embedding", tendril::cuda::index_fault(y.device()));
  });
  TENDRIL_CUDA_CHECK_LAUNCH("embedding");
}

}  // namespace

Tensor embedding(const Tensor& indices, const Tensor& weight) {
  Shape shape = indices.shape();
  shape.push_back(weight.size(1));
  const Tensor y = Tensor::empty(shape, weight.dtype(), weight.device());
  if (y.numel() == 0) return y;
  const Tensor dense = contiguous(indices);
  const int64_t size = size_of(weight.dtype()), per_vector = 16 / size;
  const bool vectors = weight.strides()[1] == 1 && weight.size(1) % per_vector == 0 &&
                       weight.strides()[0] % per_vector == 0 && aligned16(weight.raw_data());
  if (vectors)
    lookup<uint4>(dense, weight, y);
  else if (size == 2)
    lookup<uint16_t>(dense, weight, y);
  else if (size == 4)
    lookup<uint32_t>(dense, weight, y);
  else
    lookup<uint64_t>(dense, weight, y);
  return y;
}

// ---------------------------------------------------------------- backward: the order of the sums

namespace {

constexpr int kPiece = kWarp;  // positions: a lane of the warp that sums a piece holds one

// What is not summed (padding, indices out of range) gets the key `classes`, behind all others.
template <class I>
__global__ void keys_kernel(const I* indices, uint32_t* keys, int32_t* positions, int64_t count,
                            int64_t classes, int64_t padding, HostText op, IndexFault* fault) {
  const int64_t n = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n >= count) return;
  const int64_t index = indices[n];
  const bool valid = index >= 0 && index < classes;
  if (!valid) fault->report(op, index, classes);
  keys[n] = static_cast<uint32_t>(valid && index != padding ? index : classes);
  positions[n] = static_cast<int32_t>(n);
}

// Sorted keys with their runs and the pieces of runs.
struct Runs {
  const uint32_t* keys;
  int32_t count;
  uint32_t classes;

  // The first position with the key of position `at`, which is not after `at`.
  __device__ int32_t first(int32_t at) const {
    const uint32_t key = keys[at];
    int32_t low = 0, high = at;  // keys[high] == key always
    while (low < high) {
      const int32_t middle = low + (high - low) / 2;
      if (keys[middle] == key)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }

  __device__ bool continues(int32_t from, int32_t at) const {
    return at >= 0 && at < count && keys[at] == keys[from];
  }

  /// Whether a piece begins at this position.
  __device__ bool operator()(int32_t at) const {
    if (keys[at] == classes) return false;
    if (!continues(at, at - 1)) return true;
    return continues(at, at - kPiece) && (at - first(at)) % kPiece == 0;
  }

  /// Where the piece's sum waits for the others of its run. Heads of full pieces are at least
  /// kPiece apart, and so are those of the shorter last pieces of runs that have several: two rows
  /// for every kPiece positions are enough, and no two pieces share one.
  __device__ int64_t slot(int32_t at) const {
    return int64_t{2} * (at / kPiece) + (continues(at, at + kPiece - 1) ? 0 : 1);
  }
};

// cub says how much memory it wants when it is given none.
template <class Call>
void with_cub_memory(Device device, const char* what, Call&& call) {
  size_t bytes = 0;
  tendril::cuda::check(call(nullptr, bytes), what);
  const Tensor memory = Tensor::empty({static_cast<int64_t>(bytes) + 1}, u8, device);
  tendril::cuda::check(call(memory.raw_data(), bytes), what);
}

struct Order {
  Tensor keys, positions;  // sorted, i32 in memory
  Tensor heads;            // where pieces begin, ascending, i32
  Tensor head_count;       // one i32

  Order(const Tensor& indices, int64_t classes, int64_t padding) {
    const Device device = indices.device();
    const auto stream = tendril::cuda::stream(device);
    const int64_t count = indices.numel();
    const auto integers = [&](int64_t n) { return Tensor::empty({n}, i32, device); };
    const Tensor unsorted_keys = integers(count), unsorted_positions = integers(count);
    keys = integers(count), positions = integers(count);
    heads = integers(count), head_count = integers(1);
    visit_index("embedding_backward", indices.dtype(), [&]<class I>(TypeTag<I>) {
      keys_kernel<<<blocks_for(count, kThreads), kThreads, 0, stream>>>(
          indices.data<I>(), key_data(unsorted_keys), unsorted_positions.data<int32_t>(), count,
          classes, padding, "embedding_backward", tendril::cuda::index_fault(device));
    });
    TENDRIL_CUDA_CHECK_LAUNCH("embedding_backward");
    const int bits = std::bit_width(static_cast<uint64_t>(classes));
    with_cub_memory(device, "embedding_backward", [&](void* memory, size_t& bytes) {
      return cub::DeviceRadixSort::SortPairs(memory, bytes, key_data(unsorted_keys), key_data(keys),
                                             unsorted_positions.data<int32_t>(),
                                             positions.data<int32_t>(), static_cast<int>(count), 0,
                                             bits, stream);
    });
    with_cub_memory(device, "embedding_backward", [&](void* memory, size_t& bytes) {
      return cub::DeviceSelect::If(memory, bytes, thrust::counting_iterator<int32_t>(0),
                                   heads.data<int32_t>(), head_count.data<int32_t>(),
                                   static_cast<int>(count), runs(classes), stream);
    });
  }

  Runs runs(int64_t classes) const {
    return {key_data(keys), static_cast<int32_t>(keys.numel()), static_cast<uint32_t>(classes)};
  }
  static uint32_t* key_data(const Tensor& keys) { return static_cast<uint32_t*>(keys.raw_data()); }
};

// ---------------------------------------------------------------- backward: the sums

// A warp's lanes hold N neighbouring channels each. Sums in C = compute_t<T>.
template <class T>
struct Sums {
  using C = compute_t<T>;
  Runs runs;
  const int32_t *positions, *heads, *head_count;
  const T* g;  // (count, channels)
  T* table;    // (classes, channels)
  C* parts;    // (slots, channels)
  int64_t channels;
  int32_t stretches;  // of kWarp * N channels

  template <int N>
  __device__ void add(Vector<C, N>& sum, const Vector<T, N>& row) const {
#pragma unroll
    for (int i = 0; i < N; ++i) sum.v[i] += convert<C>(row.v[i]);
  }

  template <int N>
  __device__ void store(T* to, const Vector<C, N>& sum) const {
    Vector<T, N> row;
#pragma unroll
    for (int i = 0; i < N; ++i) row.v[i] = convert<T>(sum.v[i]);
    store_vector<T, N>(to, row);
  }

  template <int N>
  __device__ Vector<C, N> start(const T* row) const {
    Vector<C, N> sum{};
    add<N>(sum, load_vector<T, N>(row));
    return sum;
  }

  // Step 3 of the top of this file. All lanes come here; `active`: whether this one has channels.
  template <int N>
  __device__ void piece(int32_t head, int64_t channel, bool active) const {
    const int lane = threadIdx.x % kWarp;
    const int32_t size = __popc(__ballot_sync(0xFFFFFFFFu, runs.continues(head, head + lane)));
    const int32_t own = lane < size ? positions[head + lane] : 0;
    const bool alone = !runs.continues(head, head - 1) && !runs.continues(head, head + kPiece);
    T* row = table + static_cast<int64_t>(runs.keys[head]) * channels + channel;
    Vector<C, N> sum{};
    if (alone && active) sum = start<N>(row);
    for (int32_t i = 0; i < size; i += kAhead) {
      Vector<T, N> rows[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        const int64_t position = __shfl_sync(0xFFFFFFFFu, own, i + j);
        if (active && i + j < size) rows[j] = load_vector<T, N>(g + position * channels + channel);
      }
#pragma unroll
      for (int j = 0; j < kAhead; ++j)
        if (active && i + j < size) add<N>(sum, rows[j]);
    }
    if (!active) return;
    if (alone)
      store<N>(row, sum);
    else
      store_vector<C, N>(parts + runs.slot(head) * channels + channel, sum);
  }

  // Step 4.
  template <int N>
  __device__ void run(int32_t head, int64_t channel, bool active) const {
    if (!active || runs.continues(head, head - 1) || !runs.continues(head, head + kPiece)) return;
    T* row = table + static_cast<int64_t>(runs.keys[head]) * channels + channel;
    Vector<C, N> sum = start<N>(row);
    for (int32_t at = head; runs.continues(head, at); at += kAhead * kPiece) {
      Vector<C, N> part[kAhead]{};
#pragma unroll
      for (int j = 0; j < kAhead; ++j)
        if (runs.continues(head, at + j * kPiece))
          part[j] = load_vector<C, N>(parts + runs.slot(at + j * kPiece) * channels + channel);
#pragma unroll
      for (int j = 0; j < kAhead; ++j)
#pragma unroll
        for (int i = 0; i < N; ++i) sum.v[i] += part[j].v[i];
    }
    store<N>(row, sum);
  }
};

// Warps walk over (piece, stretch of channels).
template <int N, bool kSecond, class T>
__global__ void __launch_bounds__(kThreads) sums_kernel(Sums<T> sums) {
  const int lane = threadIdx.x % kWarp;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / kWarp);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  const int64_t items = int64_t{*sums.head_count} * sums.stretches;
  for (int64_t item = first; item < items; item += warps) {
    const int32_t head = sums.heads[item / sums.stretches];
    const int64_t channel = (item % sums.stretches * kWarp + lane) * N;
    if constexpr (kSecond)
      sums.template run<N>(head, channel, channel < sums.channels);
    else
      sums.template piece<N>(head, channel, channel < sums.channels);
  }
}

template <int N, class T>
void launch_sums(Sums<T> sums, Device device) {
  sums.stretches = static_cast<int32_t>((sums.channels + kWarp * N - 1) / (kWarp * N));
  constexpr int kBlocksEach = 8;
  const int most = tendril::cuda::properties(device).multiprocessors * kBlocksEach;
  const unsigned int blocks =
      blocks_for(int64_t{sums.runs.count} * sums.stretches, kThreads / kWarp, most);
  const auto stream = tendril::cuda::stream(device);
  sums_kernel<N, false><<<blocks, kThreads, 0, stream>>>(sums);
  TENDRIL_CUDA_CHECK_LAUNCH("embedding_backward");
  sums_kernel<N, true><<<blocks, kThreads, 0, stream>>>(sums);
  TENDRIL_CUDA_CHECK_LAUNCH("embedding_backward");
}

}  // namespace

void embedding_backward_add(const Tensor& dweight, const Tensor& g, const Tensor& indices,
                            std::optional<int64_t> padding) {
  const int64_t classes = dweight.size(0), channels = dweight.size(1), count = indices.numel();
  constexpr int64_t kMost = (int64_t{1} << 31) - 8 * kPiece;
  TENDRIL_CHECK(count < kMost && classes < kMost,
                "[embedding_backward] too many positions or classes for a GPU; got ", count,
                " and ", classes, "; at most ", kMost);
  if (count == 0 || channels == 0) return;
  const Order order(contiguous(indices), classes, padding.value_or(-1));
  const Tensor dense = contiguous(g);
  const int64_t slots = 2 * ((count + kPiece - 1) / kPiece);
  const Tensor parts = Tensor::empty({slots, channels}, accumulate_dtype(g.dtype()), g.device());
  visit_floating("embedding_backward", g.dtype(), [&]<class T>(TypeTag<T>) {
    const Sums<T> sums{order.runs(classes),
                       order.positions.data<int32_t>(),
                       order.heads.data<int32_t>(),
                       order.head_count.data<int32_t>(),
                       dense.data<T>(),
                       dweight.data<T>(),
                       parts.data<compute_t<T>>(),
                       channels,
                       0};
    if (channels % kVector<T> == 0 && aligned16(dense.raw_data(), dweight.raw_data()))
      launch_sums<kVector<T>>(sums, g.device());
    else
      launch_sums<1>(sums, g.device());
  });
}

}  // namespace tendril::ops::cuda
