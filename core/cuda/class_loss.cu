#include <tendril/core/cuda/class_loss.cuh>

#include <cuda_pipeline.h>

#include <algorithm>
#include <cmath>

#include <tendril/core/cpu/vecmath.h>
#include <tendril/core/cuda/block.cuh>
#include <tendril/core/cuda/columns.cuh>
#include <tendril/core/cuda/exponential.cuh>
#include <tendril/core/cuda/row.cuh>

namespace tendril::cuda {
namespace {

constexpr int kMostThreads = 1024;

__device__ int64_t target_of(const ClassLoss& p, int64_t row) {
  return p.target_dtype == DType::i64 ? static_cast<const int64_t*>(p.targets)[row]
                                      : static_cast<const int32_t*>(p.targets)[row];
}

// r_n
__device__ double weight_of(const ClassLoss& p, int64_t row) {
  double weight = p.factor;
  if (p.g) {
    const int64_t at = row * p.g_stride;
    weight *= p.g_dtype == DType::f64 ? static_cast<const double*>(p.g)[at]
                                      : static_cast<const float*>(p.g)[at];
  }
  if (p.count && *p.count > 1) weight /= static_cast<double>(*p.count);
  return weight;
}

// The largest of some numbers x_j, and sum_j exp(x_j - it).
template <class T>
struct RunningSum {
  using C = compute_t<T>;
  static constexpr int kSize = kVector<T>;
  C maximum = -INFINITY, sum = 0;

  // -inf less -inf would be NaN.
  __device__ static C shift_for(C largest) { return largest > -INFINITY ? largest : C(0); }

  __device__ void add(const Vector<C, kSize>& x) {
    C largest = maximum;
#pragma unroll
    for (int k = 0; k < kSize; ++k) largest = fmax(largest, x.v[k]);
    const C shift = shift_for(largest);
    const Exponential<T> exponential(shift);
    sum *= Exponential<T>(C(0))(maximum - shift);
#pragma unroll
    for (int k = 0; k < kSize; ++k) sum += exponential(x.v[k]);
    maximum = largest;
  }
};

// That of a block's row from those of its threads.
template <class T>
__device__ RunningSum<T> over_the_block(const RunningSum<T>& mine, double* shared) {
  using C = compute_t<T>;
  __shared__ C maxima[kWarp];
  RunningSum<T> all;
  all.maximum = block_reduce(mine.maximum, Larger(), C(-INFINITY), maxima);
  const C shift = RunningSum<T>::shift_for(all.maximum);
  const C share = mine.sum * Exponential<T>(C(0))(mine.maximum - shift);
  all.sum = static_cast<C>(block_sum(static_cast<double>(share), shared));
  return all;
}

// The row of one block. Every thread has the same pieces in every pass, each blockDim.x-th.
template <class T>
struct LogitsRow {
  using C = compute_t<T>;
  static constexpr int kSize = RowPieces<const T>::kSize;
  RowPieces<const T> pieces;
  int own;  // the target's element, from pieces.base

  __device__ LogitsRow(const RowPieces<const T>& pieces, int64_t target)
      : pieces(pieces), own(pieces.begin + static_cast<int>(target)) {}

  __device__ bool own_piece_is_mine() const { return own / kSize % blockDim.x == threadIdx.x; }
  __device__ static void set(Vector<C, kSize>& values, int lane, C value) {
#pragma unroll
    for (int k = 0; k < kSize; ++k)
      if (k == lane) values.v[k] = value;
  }
  __device__ void leave_out_target(Vector<C, kSize>& values, int piece) const {
    if (piece == own / kSize) set(values, own % kSize, -INFINITY);
  }

  // This thread's share of all but the target, straight from memory. Loads of several pieces are
  // under way at a time; those of the partial ones at the row's ends stand in branches.
  __device__ RunningSum<T> others_in_memory() const {
    constexpr int kBatch = 4;
    const int width = blockDim.x, begin = pieces.is_whole(0) ? 0 : 1;
    const int end = pieces.end / kSize;  // of the whole ones
    RunningSum<T> result;
    for (int first = begin + threadIdx.x; first < end; first += kBatch * width) {
      Packed raw[kBatch] = {};
#pragma unroll
      for (int i = 0; i < kBatch; ++i)
        if (first + i * width < end)
          raw[i] = load_packed(pieces.base + (first + i * width) * kSize);
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (first + i * width >= end) break;
        auto values = unpack_as<C, T>(raw[i]);
        leave_out_target(values, first + i * width);
        result.add(values);
      }
    }
    const int last = pieces.count() - 1;
    if (threadIdx.x == 0 && begin == 1) result.add(others(0));
    if (threadIdx.x == 0 && last >= begin && last >= end) result.add(others(last));
    return result;
  }

  __device__ Vector<C, kSize> others(int piece) const {
    auto values = pieces.template load<C>(piece, -INFINITY);
    leave_out_target(values, piece);
    return values;
  }

  // sum_j x_j, with the target
  __device__ double total(C target_value, double* shared) const {
    C sum = 0;
    for (int piece = threadIdx.x; piece < pieces.count(); piece += blockDim.x) {
      auto values = pieces.template load<C>(piece, C(0));
      if (piece == own / kSize) set(values, own % kSize, target_value);
#pragma unroll
      for (int k = 0; k < kSize; ++k) sum += values.v[k];
    }
    return block_sum(static_cast<double>(sum), shared);
  }

  // gradients_j = scale exp(x_j - shift) - offset, and `own_gradient` for the target. With kCached
  // all pieces are whole.
  template <bool kCached>
  __device__ void write_gradients(T* gradients, C shift, C scale, C offset, C own_gradient) const {
    const RowPieces<T> out(gradients, pieces.end - pieces.begin);
    const Exponential<T> exponential(shift);
    for (int piece = threadIdx.x; piece < pieces.count(); piece += blockDim.x) {
      auto values = kCached ? unpack_as<C, T>(load_packed(pieces.base + piece * kSize))
                            : pieces.template load<C>(piece, -INFINITY);
#pragma unroll
      for (int k = 0; k < kSize; ++k) values.v[k] = scale * exponential(values.v[k]) - offset;
      if (out.begin == pieces.begin)
        out.store(piece, values);
      else
        out.store_at(pieces.column(piece), values);
    }
    if (own_piece_is_mine()) gradients[own - pieces.begin] = static_cast<T>(own_gradient);
  }
};

// A row's copy in shared memory, which is summed while the rest is still on its way: each thread
// waits for its own pieces. Elements beyond the row, and the target, are -inf in it.
template <class T>
struct CachedRow {
  static constexpr int kSize = kVector<T>, kGroups = 4;
  RowPieces<const T> row;
  T* cache;
  int step;  // the pieces of a group are `step` apart, from one group to the next

  __device__ CachedRow(const RowPieces<const T>& row, T* cache) : row(row), cache(cache) {
    const int width = blockDim.x, each = (row.count() + width - 1) / width;
    step = (each + kGroups - 1) / kGroups * width;
  }

  // Begins the copy.
  __device__ void start() const {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      visit(group, [&](int piece) {
        const int first = piece * kSize;
        if (row.is_whole(piece)) {
          __pipeline_memcpy_async(cache + first, row.base + first, 16);
        } else {
          for (int at = first; at < first + kSize; ++at)
            cache[at] = row.has(at) ? row.base[at] : T(-INFINITY);
        }
      });
      __pipeline_commit();
    }
  }

  // body(piece) for this thread's pieces of a group
  template <class Body>
  __device__ void visit(int group, Body body) const {
    const int end = min((group + 1) * step, row.count());
    for (int piece = group * step + threadIdx.x; piece < end; piece += blockDim.x) body(piece);
  }

  __device__ RunningSum<T> others(const LogitsRow<T>& logits) const {
    RunningSum<T> result;
    const int own_group = logits.own_piece_is_mine() ? logits.own / kSize / step : -1;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      __pipeline_wait_prior(kGroups - 1 - group);
      if (group == own_group) cache[logits.own] = T(-INFINITY);
      visit(group, [&](int piece) {
        result.add(unpack_as<compute_t<T>, T>(load_packed(cache + piece * kSize)));
      });
    }
    return result;
  }
};

template <class T>
__device__ void write_zeros(T* row, int64_t begin, int64_t end) {
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) row[i] = T(0.0f);
}

// The whole of a row that does not count.
template <class T>
__device__ void skip_row(const ClassLoss& p, int64_t row, int64_t target, T* gradients,
                         IndexFault* fault) {
  if (threadIdx.x == 0) {
    if (target != p.ignore_index) fault->report(p.op, target, p.classes);
    if (p.losses) p.losses[row] = 0.0;
    if (p.logsumexp) p.logsumexp[row] = 0.0;
  }
  if (gradients) write_zeros(gradients, 0, p.gradients_stride);
}

// The rest of a row once its sums are known. `logits` reads the row, all but its target.
template <class T, bool kCached>
__device__ void finish_row(const ClassLoss& p, int64_t row, const LogitsRow<T>& logits,
                           T* gradients, compute_t<T> own, const RunningSum<T>& others,
                           double* shared) {
  using C = compute_t<T>;
  const C maximum = fmax(others.maximum, own);
  const C others_scale = vec::exp(others.maximum - maximum);
  const C others_sum = others.sum * others_scale;
  const C sum = others_sum + vec::exp(own - maximum);
  const C log_sum = own == maximum ? log1p(others_sum) : vec::log(sum);
  const C smoothing = static_cast<C>(p.label_smoothing), classes = static_cast<C>(p.classes);

  if (p.losses) {
    C loss = 0;  // a weight of 0 must not meet the infinity of a logit of -inf
    if (smoothing < C(1)) loss += (C(1) - smoothing) * (maximum - own + log_sum);
    if (smoothing > C(0)) {
      const C mean = static_cast<C>(logits.total(own, shared) / static_cast<double>(p.classes));
      loss += smoothing * (maximum - mean + log_sum);
    }
    if (threadIdx.x == 0) p.losses[row] = loss;
  }
  if (p.logsumexp && threadIdx.x == 0)
    p.logsumexp[row] = static_cast<double>(maximum) + static_cast<double>(log_sum);
  if (!gradients) return;
  const C weight = static_cast<C>(weight_of(p, row)), share = smoothing / classes;
  logits.template write_gradients<kCached>(gradients, RunningSum<T>::shift_for(others.maximum),
                                           weight * others_scale / sum, weight * share,
                                           -weight * (others_sum / sum - share * (classes - C(1))));
  write_zeros(gradients, p.classes, p.gradients_stride);
}

// A block per row. With kCached dynamic shared memory holds the row.
template <class T, bool kCached>
__global__ void __launch_bounds__(kMostThreads) class_loss_kernel(ClassLoss p, IndexFault* fault) {
  using C = compute_t<T>;
  extern __shared__ uint4 memory[];
  __shared__ double shared[kWarp];
  const int64_t row = blockIdx.x;
  T* gradients = p.gradients ? static_cast<T*>(p.gradients) + row * p.gradients_stride : nullptr;
  const T* x = static_cast<const T*>(p.logits) + row * p.logits_stride;
  RowPieces<const T> pieces(x, static_cast<int>(p.classes));
  // The row is on its way before the target is known: few rows are ignored.
  const CachedRow<T> cached(pieces, reinterpret_cast<T*>(memory));
  if constexpr (kCached) {
    cached.start();
    pieces = pieces.copied_to(cached.cache);
  }
  const int64_t target = target_of(p, row);
  if (target == p.ignore_index || target < 0 || target >= p.classes) {
    __pipeline_wait_prior(0);
    return skip_row(p, row, target, gradients, fault);
  }
  const C own = static_cast<C>(x[target]);
  const LogitsRow<T> logits(pieces, target);
  RunningSum<T> mine;
  if constexpr (kCached)
    mine = cached.others(logits);
  else
    mine = logits.others_in_memory();
  finish_row<T, kCached>(p, row, logits, gradients, own, over_the_block(mine, shared), shared);
}

template <class T>
void launch(const ClassLoss& p, Device device) {
  constexpr int64_t kStaticShared = 1024;  // an upper bound
  constexpr int kSize = kVector<T>;
  const int64_t pieces = (p.classes + 2 * kSize - 2) / kSize;
  const int64_t bytes = pieces * 16, most = properties(device).shared_bytes_per_block;
  const bool cached = p.gradients && bytes + kStaticShared <= most;  // without, one or two passes
  // Two blocks share a multiprocessor, so that one computes while the other reads; a row that
  // leaves no room for a second gets all threads.
  const int64_t most_threads = !p.gradients                                    ? 256
                               : cached && 2 * (bytes + kStaticShared) <= most ? 512
                                                                               : kMostThreads;
  const int64_t wanted = (pieces / 4 + kWarp - 1) / kWarp * kWarp;
  const auto threads = static_cast<unsigned>(std::clamp<int64_t>(wanted, kWarp, most_threads));
  const auto kernel = cached ? class_loss_kernel<T, true> : class_loss_kernel<T, false>;
  const size_t shared = cached ? static_cast<size_t>(bytes) : 0;
  const cudaStream_t on = stream(device);
  if (shared > 48 * 1024)
    TENDRIL_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(shared)));
  kernel<<<static_cast<unsigned>(p.rows), threads, shared, on>>>(p, index_fault(device));
  TENDRIL_CUDA_CHECK_LAUNCH(p.op.text);
}

template <class T>
__global__ void __launch_bounds__(kMostThreads)
    count_kernel(const T* targets, int64_t rows, int64_t ignore_index, int64_t* count) {
  int64_t mine = 0;
  for (int64_t i = threadIdx.x; i < rows; i += blockDim.x) mine += targets[i] != ignore_index;
  __shared__ int64_t shared[kWarp];
  const int64_t all = block_sum(mine, shared);
  if (threadIdx.x == 0) *count = all;
}

// out = sum of the losses / max(count, 1)
template <class T>
__global__ void __launch_bounds__(kMostThreads)
    total_kernel(const double* losses, int64_t rows, const int64_t* count, T* out) {
  double mine = 0.0;
  for (int64_t i = threadIdx.x; i < rows; i += blockDim.x) mine += losses[i];
  __shared__ double shared[kWarp];
  const double all = block_sum(mine, shared);
  if (threadIdx.x == 0)
    *out = static_cast<T>(count && *count > 1 ? all / static_cast<double>(*count) : all);
}

template <class T>
__global__ void convert_kernel(const double* losses, int64_t rows, T* out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < rows) out[i] = static_cast<T>(losses[i]);
}

}  // namespace

void class_loss(const ClassLoss& rows, Device device) {
  if (rows.rows == 0) return;
  constexpr int64_t kMost = (int64_t{1} << 31) - 64;
  TENDRIL_CHECK(rows.rows < kMost && rows.classes < kMost, "[", rows.op.text,
                "] has too many rows or classes for a GPU; got ", rows.rows, " and ", rows.classes,
                "; each must be below 2^31 - 64");
  visit_floating(rows.op.text, rows.dtype,
                 [&](auto tag) { launch<typename decltype(tag)::type>(rows, device); });
}

Tensor count_targets(const Tensor& target, int64_t ignore_index) {
  const Tensor count = Tensor::empty({1}, i64, target.device());
  const cudaStream_t on = stream(target.device());
  visit_index("loss", target.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    count_kernel<T><<<1, kMostThreads, 0, on>>>(target.data<T>(), target.numel(), ignore_index,
                                                count.data<int64_t>());
  });
  TENDRIL_CUDA_CHECK_LAUNCH("loss");
  return count;
}

Tensor reduce_losses(const Tensor& losses, const Tensor& count, const Shape& shape, DType dtype,
                     Reduction reduction) {
  const bool all = reduction != Reduction::none;
  const Tensor result = Tensor::empty(all ? Shape{} : shape, dtype, losses.device());
  const int64_t rows = losses.numel();
  const cudaStream_t on = stream(losses.device());
  visit_floating("loss", dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t* divisor = reduction == Reduction::mean ? count.data<int64_t>() : nullptr;
    const double* from = losses.data<double>();
    T* out = result.data<T>();
    if (all)
      total_kernel<T><<<1, kMostThreads, 0, on>>>(from, rows, divisor, out);
    else if (rows > 0)
      convert_kernel<T><<<blocks_for(rows, 256), 256, 0, on>>>(from, rows, out);
  });
  TENDRIL_CUDA_CHECK_LAUNCH("loss");
  return result;
}

}  // namespace tendril::cuda
