// The backward passes of layer_norm, rms_norm and add_layer_norm.
//
// dweight and dbias are sums over all rows. Each block owns a run of rows and writes its partial
// sums; a second kernel adds those in the order of the blocks: the same bits on every run.
#include <tendril/core/ops/norm_layers.h>

#include <algorithm>

#include <tendril/core/ops/norm_layers.cuh>

namespace tendril::ops::cuda {
namespace {

// g, x, added (null: none) and dx are rows of n elements of T; mean (null for rms_norm), rstd and
// partials (blocks, 2, n), dweight before dbias, in T's compute type.
struct NormGradientRows {
  const void *g, *x, *added, *mean, *rstd;
  void *dx, *partials;
  Channels weight;
  int64_t rows, rows_per_block;
  int n;
  bool aligned;  // every row begins at 16 bytes

  __device__ bool centred() const { return mean != nullptr; }
};

// With h = (x - mean) rstd and m = g weight: dx = rstd (m - mean(m) - h mean(m h)); rms_norm has no
// mean and no mean(m).
template <class C>
struct RowGradient {
  C mean, rstd, mean_m, mean_mh;

  __device__ C normalised(C x) const { return (x - mean) * rstd; }
  __device__ C operator()(C m, C h) const { return rstd * (m - mean_m - h * mean_mh); }
};

template <class C>
__device__ RowGradient<C> statistics(const NormGradientRows& p, int64_t row) {
  return {p.centred() ? static_cast<const C*>(p.mean)[row] : C(0),
          static_cast<const C*>(p.rstd)[row], C(0), C(0)};
}

// A thread's columns of one row, as they lie in memory: half the registers of floats.
template <class T, int kPieces>
struct RawRow {
  using C = compute_t<T>;
  Packed g[kPieces], x[kPieces];
  RowGradient<C> gradient;  // without its means

  // Zeros where there is no such row. That is no branch around the loads: it would wait for them.
  __device__ void read(const NormGradientRows& p, int64_t row, int64_t end, int lane, int width) {
    const int n = row < end ? p.n : 0;
    read_columns(p.g, row, n, p, lane, width, g);
    read_columns(p.x, row, n, p, lane, width, x);
    gradient = statistics<C>(p, row < end ? row : end - 1);
  }
  // The first n columns of the row, and 0 beyond.
  __device__ static void read_columns(const void* rows, int64_t row, int n,
                                      const NormGradientRows& p, int lane, int width,
                                      Packed (&to)[kPieces]) {
    const T* from = static_cast<const T*>(rows) + row * p.n;
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
      to[i] = load_packed_columns(from, (lane + i * width) * kVector<T>, n, p.aligned);
  }
};

// A thread's share of dweight and dbias: always the same columns, whose weights stay in registers.
template <class T, int kPieces>
struct ColumnSums {
  using C = compute_t<T>;
  static constexpr int kSize = kVector<T>;
  C weight[kPieces][kSize] = {}, bias[kPieces][kSize] = {};
  Vector<C, kSize> factors[kPieces];

  __device__ ColumnSums(const NormGradientRows& p, int lane, int width) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
      factors[i] = channels<T>(p.weight, (lane + i * width) * kSize, p.n, p.aligned, C(1));
  }

  // Adds one row to the sums and writes its dx.
  template <bool kWarpRow>
  __device__ void add_row(const NormGradientRows& p, const RawRow<T, kPieces>& raw, int64_t row,
                          int lane, int width, C* shared) {
    RowGradient<C> gradient = raw.gradient;
    Packed added[kPieces] = {};
    if (p.added) raw.read_columns(p.added, row, p.n, p, lane, width, added);
    C sum_m = 0, sum_mh = 0;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const auto g = unpack_as<C, T>(raw.g[i]), x = unpack_as<C, T>(raw.x[i]);
#pragma unroll
      for (int k = 0; k < kSize; ++k) {  // g is 0 beyond the end of the row
        const C m = g.v[k] * factors[i].v[k], h = gradient.normalised(x.v[k]);
        sum_m += m;
        sum_mh += m * h;
        weight[i][k] += g.v[k] * h;
        bias[i][k] += g.v[k];
      }
    }
    const C n = static_cast<C>(p.n);
    gradient.mean_mh = row_sum<kWarpRow>(sum_mh, shared) / n;
    if (p.centred()) gradient.mean_m = row_sum<kWarpRow>(sum_m, shared) / n;
    T* dx = static_cast<T*>(p.dx) + row * p.n;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const auto g = unpack_as<C, T>(raw.g[i]), x = unpack_as<C, T>(raw.x[i]);
      const auto more = unpack_as<C, T>(added[i]);
      Vector<C, kSize> values;
#pragma unroll
      for (int k = 0; k < kSize; ++k) {
        values.v[k] = gradient(g.v[k] * factors[i].v[k], gradient.normalised(x.v[k]));
        if (p.added) values.v[k] += more.v[k];
      }
      store_columns(dx, (lane + i * width) * kSize, p.n, p.aligned, values);
    }
  }

  // to[column] = the sum, for this thread's columns.
  __device__ static void write(const C (&sums)[kPieces][kSize], C* to, int n, int lane, int width) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int first = (lane + i * width) * kSize;
      for_columns<kSize>(first, n, [&](int k) { to[first + k] = sums[i][k]; });
    }
  }
};

// Where a warp has a row, one block fills a multiprocessor with as many warps as the registers
// allow: few partial sums, and enough warps to hide the memory's latency.
template <class T, int kPieces>
inline constexpr int kRowRegisters = kPieces*(3 * kVector<T> + 4 * 4);  // sums, weights, two rows
template <class T, int kPieces, bool kWarpRow>
inline constexpr int kBackwardThreads = !kWarpRow                          ? kMostRowThreads
                                        : kRowRegisters<T, kPieces> <= 90  ? 512
                                        : kRowRegisters<T, kPieces> <= 130 ? 384
                                                                           : 256;

// What a kernel is compiled for: loads behind a condition that is known only when it runs wait for
// each other.
enum class Rows : uint8_t { aligned, aligned_with_added, any };

template <class T, int kPieces, bool kWarpRow, Rows kRows>
__global__ void __launch_bounds__(kBackwardThreads<T, kPieces, kWarpRow>)
    norm_backward_kernel(NormGradientRows p) {
  p.aligned = kRows != Rows::any;
  if (kRows == Rows::aligned) p.added = nullptr;
  if (kRows == Rows::aligned_with_added) __builtin_assume(p.added != nullptr);
  using C = compute_t<T>;
  constexpr bool kReadsAhead = kRows != Rows::any;  // the next row is on its way meanwhile
  constexpr int kWarps = kWarpRow ? kBackwardThreads<T, kPieces, kWarpRow> / kWarp : 1;
  constexpr int kColumns = kPieces * kVector<T> * kWarp;  // of a warp
  __shared__ C shared[kWarpRow ? kWarps * kColumns : kWarp];
  const int lane = kWarpRow ? threadIdx.x % kWarp : threadIdx.x;
  const int width = kWarpRow ? kWarp : blockDim.x;
  const int warp = kWarpRow ? threadIdx.x / kWarp : 0;
  const int64_t begin = blockIdx.x * p.rows_per_block;
  const int64_t end = begin + p.rows_per_block < p.rows ? begin + p.rows_per_block : p.rows;

  ColumnSums<T, kPieces> sums(p, lane, width);
  RawRow<T, kPieces> raw;
  if constexpr (kReadsAhead) raw.read(p, begin + warp, end, lane, width);
  for (int64_t row = begin + warp; row < end; row += kWarps) {
    RawRow<T, kPieces> next;
    if constexpr (kReadsAhead)
      next.read(p, row + kWarps, end, lane, width);
    else
      raw.read(p, row, end, lane, width);
    sums.template add_row<kWarpRow>(p, raw, row, lane, width, shared);
    if constexpr (kReadsAhead) raw = next;
  }
  C* partials = static_cast<C*>(p.partials) + blockIdx.x * int64_t{2} * p.n;
#pragma unroll
  for (int half = 0; half < 2; ++half, partials += p.n) {
    const auto& mine = half == 0 ? sums.weight : sums.bias;
    if constexpr (!kWarpRow) {
      sums.write(mine, partials, p.n, lane, width);
    } else {
      sums.write(mine, shared + warp * kColumns, p.n, lane, width);
      __syncthreads();
      for (int i = threadIdx.x; i < p.n; i += blockDim.x) {
        C total = 0;
        for (int from = 0; from < kWarps; ++from) total += shared[from * kColumns + i];
        partials[i] = total;
      }
      __syncthreads();
    }
  }
}

// Any T and n. The sums grow in the block's partials; a thread always has the same columns.
template <class T>
__global__ void __launch_bounds__(kMostRowThreads)
    general_norm_backward_kernel(NormGradientRows p) {
  using C = compute_t<T>;
  __shared__ C shared[kWarp];
  C* dweight = static_cast<C*>(p.partials) + blockIdx.x * int64_t{2} * p.n;
  C* dbias = dweight + p.n;
  for (int i = threadIdx.x; i < p.n; i += blockDim.x) dweight[i] = dbias[i] = C(0);
  const int64_t begin = blockIdx.x * p.rows_per_block;
  const int64_t end = begin + p.rows_per_block < p.rows ? begin + p.rows_per_block : p.rows;
  for (int64_t row = begin; row < end; ++row) {
    const T *g = static_cast<const T*>(p.g) + row * p.n,
            *x = static_cast<const T*>(p.x) + row * p.n;
    RowGradient<C> gradient = statistics<C>(p, row);
    C sum_m = 0, sum_mh = 0;
    for (int i = threadIdx.x; i < p.n; i += blockDim.x) {
      const C value = static_cast<C>(g[i]), h = gradient.normalised(static_cast<C>(x[i]));
      const C m = value * channel<T>(p.weight, i, C(1));
      sum_m += m;
      sum_mh += m * h;
      dweight[i] += value * h;
      dbias[i] += value;
    }
    gradient.mean_mh = block_sum(sum_mh, shared) / static_cast<C>(p.n);
    if (p.centred()) gradient.mean_m = block_sum(sum_m, shared) / static_cast<C>(p.n);
    T* dx = static_cast<T*>(p.dx) + row * p.n;
    const T* added = static_cast<const T*>(p.added) + row * p.n;
    for (int i = threadIdx.x; i < p.n; i += blockDim.x) {
      const C m = static_cast<C>(g[i]) * channel<T>(p.weight, i, C(1));
      C value = gradient(m, gradient.normalised(static_cast<C>(x[i])));
      if (p.added) value += static_cast<C>(added[i]);
      dx[i] = static_cast<T>(value);
    }
  }
}

constexpr int kColumnsPerBlock = 32, kRowsPerBlock = 16;

// dweight and dbias, of which one may be null: sums of partials (blocks, 2, n) over the blocks. The
// second dimension of the grid is theirs.
template <class C, class Out>
__global__ void __launch_bounds__(kColumnsPerBlock* kRowsPerBlock)
    add_partials_kernel(const C* partials, int blocks, int n, Out* dweight, Out* dbias) {
  __shared__ double shared[kRowsPerBlock][kColumnsPerBlock];
  Out* out = blockIdx.y == 0 ? dweight : dbias;
  if (!out) return;
  const int column = blockIdx.x * kColumnsPerBlock + threadIdx.x;
  const C* from = partials + int64_t{blockIdx.y} * n + column;
  double sum = 0.0;
  if (column < n) {
#pragma unroll 8
    for (int block = threadIdx.y; block < blocks; block += kRowsPerBlock)
      sum += from[block * int64_t{2} * n];
  }
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= n) return;
  for (int i = 1; i < kRowsPerBlock; ++i) sum += shared[i][threadIdx.x];
  out[column] = static_cast<Out>(static_cast<compute_t<Out>>(sum));
}

void add_partials(const Tensor& partials, const Tensor& dweight, const Tensor& dbias) {
  if (!dweight.defined() && !dbias.defined()) return;
  const int64_t blocks = partials.size(0), n = partials.size(2);
  const cudaStream_t on = stream(partials.device());
  const dim3 grid(blocks_for(n, kColumnsPerBlock), 2), threads(kColumnsPerBlock, kRowsPerBlock);
  visit_floating("norm", (dweight.defined() ? dweight : dbias).dtype(), [&](auto tag) {
    using Out = typename decltype(tag)::type;
    const auto pointer = [](const Tensor& x) { return x.defined() ? x.data<Out>() : nullptr; };
    const auto launch = [&](const auto* from) {
      add_partials_kernel<<<grid, threads, 0, on>>>(
          from, static_cast<int>(blocks), static_cast<int>(n), pointer(dweight), pointer(dbias));
    };
    partials.dtype() == f64 ? launch(partials.data<double>()) : launch(partials.data<float>());
  });
  TENDRIL_CUDA_CHECK_LAUNCH("norm");
}

// Queues the kernel; returns the partial sums (blocks, 2, n).
template <class C>
Tensor launch(const char* op, void (*kernel)(NormGradientRows), int threads,
              int blocks_per_processor, NormGradientRows p, Device device) {
  const int64_t most = blocks_per_processor * int64_t{properties(device).multiprocessors};
  p.rows_per_block = std::max<int64_t>(8, (p.rows + most - 1) / most);
  const unsigned blocks = blocks_for(p.rows, p.rows_per_block);
  const Tensor partials =
      Tensor::empty({static_cast<int64_t>(blocks), 2, p.n}, dtype_of<C>(), device);
  p.partials = partials.raw_data();
  kernel<<<blocks, static_cast<unsigned>(threads), 0, stream(device)>>>(p);
  TENDRIL_CUDA_CHECK_LAUNCH(op);
  return partials;
}

template <class T>
Tensor launch_fast(const char* op, NormGradientRows p, Device device) {
  p.aligned = rows_are_aligned<T>(p.n, static_cast<const T*>(p.g), p.x, p.added, p.dx);
  Tensor partials;
  visit_row_shape<T>(p.n, [&](auto shape) {
    using S = decltype(shape);
    const auto kernel =
        !p.aligned ? norm_backward_kernel<T, S::pieces, S::warp_row, Rows::any>
        : p.added  ? norm_backward_kernel<T, S::pieces, S::warp_row, Rows::aligned_with_added>
                   : norm_backward_kernel<T, S::pieces, S::warp_row, Rows::aligned>;
    const int threads = S::warp_row ? kBackwardThreads<T, S::pieces, S::warp_row> : shape.threads;
    int resident = 0;
    stream(device);  // makes the device current
    TENDRIL_CUDA_CHECK(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, threads, 0));
    partials = launch<compute_t<T>>(op, kernel, threads, resident, p, device);
  });
  return partials;
}

template <class T>
Tensor launch_general(const char* op, const NormGradientRows& p, Device device) {
  return launch<compute_t<T>>(op, general_norm_backward_kernel<T>, kMostRowThreads, 2, p, device);
}

// `mean` undefined: rms_norm. `added` undefined: nothing is added to dx.
NormGradients gradients_of(const char* op, const Tensor& g, const Tensor& added, const Tensor& x,
                           const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                           bool with_weight, bool with_bias) {
  NormGradients gradients{Tensor::empty(x.shape(), x.dtype(), x.device()), {}, {}};
  const Tensor gs = contiguous(g), xs = contiguous(x);
  const Tensor more = added.defined() ? contiguous(added) : Tensor();
  Tensor weights;
  const NormGradientRows p{gs.raw_data(),
                           xs.raw_data(),
                           more.defined() ? more.raw_data() : nullptr,
                           mean.defined() ? mean.raw_data() : nullptr,
                           rstd.raw_data(),
                           gradients.x.raw_data(),
                           nullptr,
                           channels_of(weight, x.dtype(), weights),
                           rstd.numel(),
                           0,
                           row_length(op, x),
                           false};
  Tensor partials;  // without rows the sums are 0
  visit_fast_type(x.dtype(), [&](auto tag) {
    partials = launch_fast<typename decltype(tag)::type>(op, p, x.device());
  });
  if (!partials.defined())
    visit_floating(op, x.dtype(), [&](auto tag) {
      partials = launch_general<typename decltype(tag)::type>(op, p, x.device());
    });
  const DType dtype = weight.defined() ? weight.dtype() : x.dtype();
  const auto empty = [&] { return Tensor::empty({x.size(-1)}, dtype, x.device()); };
  if (with_weight) gradients.weight = empty();
  if (with_bias) gradients.bias = empty();
  add_partials(partials, gradients.weight, gradients.bias);
  return gradients;
}

}  // namespace

NormGradients layer_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                                  const Tensor& mean, const Tensor& rstd, bool with_weight,
                                  bool with_bias) {
  return gradients_of("layer_norm_backward", g, {}, x, weight, mean, rstd, with_weight, with_bias);
}

NormGradients rms_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                                const Tensor& rstd, bool with_weight) {
  return gradients_of("rms_norm_backward", g, {}, x, weight, {}, rstd, with_weight, false);
}

NormGradients add_layer_norm_backward(const Tensor& g, const Tensor& g_sum, const Tensor& sum,
                                      const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                                      bool with_weight, bool with_bias) {
  return gradients_of("add_layer_norm_backward", g, g_sum, sum, weight, mean, rstd, with_weight,
                      with_bias);
}

}  // namespace tendril::ops::cuda
