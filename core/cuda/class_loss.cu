#include <tendril/core/cuda/class_loss.cuh>

#include <cuda_pipeline.h>

#include <algorithm>
#include <cmath>

#include <tendril/core/cpu/vecmath.h>
#include <tendril/core/cuda/block.cuh>
#include <tendril/core/cuda/row.cuh>

namespace tendril::cuda {
namespace {

constexpr int kMostThreads = 1024;

// The fast exponential errs by 1e-6 where the probability matters: less than 16-bit logits do.
template <class T, class C>
__device__ C exponential(C x) {
  if constexpr (is_half<T>)
    return __expf(x);
  else
    return vec::exp(x);
}

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

// Copies the row to `cache`; every thread the pieces that it will read itself.
template <class T>
__device__ void fill_cache(const RowPieces<const T>& row, T* cache) {
  constexpr int kSize = RowPieces<const T>::kSize;
  for (int piece = threadIdx.x; piece < row.count(); piece += blockDim.x) {
    const int first = piece * kSize;
    if (row.is_whole(piece)) {
      __pipeline_memcpy_async(cache + first, row.base + first, 16);
    } else {
      for (int at = first; at < first + kSize; ++at)
        if (row.has(at)) cache[at] = row.base[at];
    }
  }
  __pipeline_commit();
  __pipeline_wait_prior(0);
}

// The row of one block without its target, whose place holds -inf.
template <class T>
struct Others {
  using C = compute_t<T>;
  static constexpr int kSize = RowPieces<const T>::kSize;
  RowPieces<const T> row;
  int own_piece, own_lane;

  __device__ Others(const RowPieces<const T>& pieces, int target) : row(pieces) {
    own_piece = (pieces.begin + target) / kSize;
    own_lane = (pieces.begin + target) % kSize;
  }
  __device__ static void set(Vector<C, kSize>& values, int lane, C value) {
#pragma unroll
    for (int k = 0; k < kSize; ++k)
      if (k == lane) values.v[k] = value;
  }
  __device__ Vector<C, kSize> load(int piece) const {
    auto values = row.template load<C>(piece, -INFINITY);
    if (piece == own_piece) set(values, own_lane, -INFINITY);
    return values;
  }

  __device__ C maximum() const {
    C best = -INFINITY;
    for (int piece = threadIdx.x; piece < row.count(); piece += blockDim.x) {
      const auto values = load(piece);
#pragma unroll
      for (int k = 0; k < kSize; ++k) best = fmax(best, values.v[k]);
    }
    __shared__ C shared[kWarp];
    return block_reduce(best, Larger(), C(-INFINITY), shared);
  }

  // sum_j exp(x_j - shift)
  __device__ double exponentials(C shift, double* shared) const {
    C sum = 0;
    for (int piece = threadIdx.x; piece < row.count(); piece += blockDim.x) {
      const auto values = load(piece);
#pragma unroll
      for (int k = 0; k < kSize; ++k) sum += exponential<T>(values.v[k] - shift);
    }
    return block_sum(static_cast<double>(sum), shared);
  }

  // sum_j x_j, with the target
  __device__ double total(double* shared) const {
    C sum = 0;
    for (int piece = threadIdx.x; piece < row.count(); piece += blockDim.x) {
      const auto values = row.template load<C>(piece, C(0));
#pragma unroll
      for (int k = 0; k < kSize; ++k) sum += values.v[k];
    }
    return block_sum(static_cast<double>(sum), shared);
  }

  // gradients_j = scale exp(x_j - shift) - offset, and `own` for the target
  __device__ void write_gradients(T* gradients, C shift, C scale, C offset, C own) const {
    const RowPieces<T> out(gradients, row.end - row.begin);
    for (int piece = threadIdx.x; piece < row.count(); piece += blockDim.x) {
      auto values = load(piece);
#pragma unroll
      for (int k = 0; k < kSize; ++k)
        values.v[k] = scale * exponential<T>(values.v[k] - shift) - offset;
      if (piece == own_piece) set(values, own_lane, own);
      out.store_at(row.column(piece), values);
    }
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

// A block per row. With kCached dynamic shared memory holds the row.
template <class T, bool kCached>
__global__ void __launch_bounds__(kMostThreads) class_loss_kernel(ClassLoss p, IndexFault* fault) {
  using C = compute_t<T>;
  extern __shared__ uint4 memory[];
  __shared__ double shared[kWarp];
  const int64_t row = blockIdx.x, target = target_of(p, row);
  T* gradients = p.gradients ? static_cast<T*>(p.gradients) + row * p.gradients_stride : nullptr;
  if (target == p.ignore_index || target < 0 || target >= p.classes)
    return skip_row(p, row, target, gradients, fault);

  const T* x = static_cast<const T*>(p.logits) + row * p.logits_stride;
  const C own = static_cast<C>(x[target]);
  RowPieces<const T> pieces(x, static_cast<int>(p.classes));
  if constexpr (kCached) {
    T* cache = reinterpret_cast<T*>(memory);
    fill_cache(pieces, cache);
    pieces = pieces.copied_to(cache);
  }
  const Others<T> others(pieces, static_cast<int>(target));

  const C others_maximum = others.maximum();
  const C shift = others_maximum > -INFINITY ? others_maximum : C(0);  // -inf less -inf is NaN
  const double exponentials = others.exponentials(shift, shared);
  const C maximum = fmax(others_maximum, own);
  const C others_scale = vec::exp(others_maximum - maximum);
  const C others_sum = static_cast<C>(exponentials) * others_scale;
  const C sum = others_sum + vec::exp(own - maximum);
  const C log_sum = own == maximum ? log1p(others_sum) : vec::log(sum);
  const C smoothing = static_cast<C>(p.label_smoothing), classes = static_cast<C>(p.classes);

  if (p.losses) {
    C loss = 0;  // a weight of 0 must not meet the infinity of a logit of -inf
    if (smoothing < C(1)) loss += (C(1) - smoothing) * (maximum - own + log_sum);
    if (smoothing > C(0)) {
      const C mean = static_cast<C>(others.total(shared) / static_cast<double>(p.classes));
      loss += smoothing * (maximum - mean + log_sum);
    }
    if (threadIdx.x == 0) p.losses[row] = loss;
  }
  if (p.logsumexp && threadIdx.x == 0)
    p.logsumexp[row] = static_cast<double>(maximum) + static_cast<double>(log_sum);
  if (!gradients) return;
  const C weight = static_cast<C>(weight_of(p, row)), share = smoothing / classes;
  others.write_gradients(gradients, shift, weight * others_scale / sum, weight * share,
                         -weight * (others_sum / sum - share * (classes - C(1))));
  write_zeros(gradients, p.classes, p.gradients_stride);
}

template <class T>
void launch(const ClassLoss& p, Device device) {
  constexpr int64_t kStaticShared = 1024;  // an upper bound
  constexpr int kSize = kVector<T>;
  const int64_t pieces = (p.classes + 2 * kSize - 2) / kSize;
  const int64_t bytes = pieces * 16, most = properties(device).shared_bytes_per_block;
  const bool cached = bytes + kStaticShared <= most;
  // Two blocks share a multiprocessor, so that one computes while the other reads; a row that
  // leaves no room for a second gets all threads.
  const int64_t most_threads = cached && 2 * (bytes + kStaticShared) <= most ? 512 : kMostThreads;
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
