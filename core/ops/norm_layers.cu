// The forward passes of layer_norm, rms_norm and add_layer_norm.
#include <tendril/core/ops/norm_layers.h>

#include <type_traits>

#include <tendril/core/ops/norm_layers.cuh>

namespace tendril::ops::cuda {
namespace {

// Rows of n elements: x, residual (null: none), their sum (only with a residual) and y in T, but
// float rows may have a 16-bit residual; mean (null for rms_norm) and rstd in T's compute type.
struct NormRows {
  const void *x, *residual;
  void *sum, *y, *mean, *rstd;
  Channels weight, bias;
  int64_t rows;
  int n;
  double eps;
  DType residual_dtype;
  bool aligned;  // every row begins at 16 bytes

  __device__ bool centred() const { return mean != nullptr; }
};

template <class C>
__device__ C inverse_root(C squares, int n, double eps) {
  return C(1) / sqrt(squares / static_cast<C>(n) + static_cast<C>(eps));
}

// body(the residual's elements) with their type.
template <class T, class Body>
__device__ void visit_residual(const NormRows& p, Body body) {
  if constexpr (std::is_same_v<T, float>) {
    if (p.residual_dtype == DType::bf16) return body(static_cast<const bfloat16*>(p.residual));
    if (p.residual_dtype == DType::f16) return body(static_cast<const float16*>(p.residual));
  }
  body(static_cast<const T*>(p.residual));
}

// When a row's residual is read: never; with its x, a row ahead, which needs one of x's type; or
// when it is added, which also asks whether there is one.
enum class Residual : uint8_t { none, ahead, late };

// A thread's columns of one row as they lie in memory; `lane` counts the threads of the row.
template <class T, int kPieces, Residual kResidual>
struct RowAhead {
  Packed x[kPieces], residual[kPieces];  // the second only for Residual::ahead

  // Nothing where there is no such row. That is no branch around the loads: it would wait for them.
  __device__ void read(const NormRows& p, int64_t row, int lane, int width) {
    const int n = row < p.rows ? p.n : 0;
    const auto columns = [&](const void* rows, Packed(&to)[kPieces]) {
      const T* from = static_cast<const T*>(rows) + row * p.n;
#pragma unroll
      for (int i = 0; i < kPieces; ++i)
        to[i] = load_packed_columns(from, (lane + i * width) * kVector<T>, n, p.aligned);
    };
    columns(p.x, x);
    if constexpr (kResidual == Residual::ahead) columns(p.residual, residual);
  }
};

// The same columns in the compute type, and the first passes over them.
template <class T, int kPieces>
struct RowInRegisters {
  using C = compute_t<T>;
  static constexpr int kSize = kVector<T>;
  Vector<C, kSize> x[kPieces];

  // x, or x + residual rounded to T, which is also stored.
  template <Residual kResidual>
  __device__ RowInRegisters(const RowAhead<T, kPieces, kResidual>& raw, const NormRows& p,
                            int64_t row, int lane, int width) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) x[i] = unpack_as<C, T>(raw.x[i]);
    if constexpr (kResidual == Residual::ahead) {
      Vector<T, kSize> more[kPieces];
#pragma unroll
      for (int i = 0; i < kPieces; ++i) more[i] = unpack<T>(raw.residual[i]);
      add(more, p, row, lane, width);
    } else if constexpr (kResidual == Residual::late) {
      if (!p.residual) return;
      visit_residual<T>(p, [&]<class R>(const R* residual) {
        Vector<R, kSize> more[kPieces];
#pragma unroll
        for (int i = 0; i < kPieces; ++i)
          more[i] = load_raw_columns<kSize>(residual + row * p.n, (lane + i * width) * kSize, p.n,
                                            p.aligned);
        add(more, p, row, lane, width);
      });
    }
  }

  template <class R>
  __device__ void add(const Vector<R, kSize> (&residual)[kPieces], const NormRows& p, int64_t row,
                      int lane, int width) {
    T* sum = static_cast<T*>(p.sum) + row * p.n;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int k = 0; k < kSize; ++k)
        x[i].v[k] = static_cast<C>(static_cast<T>(x[i].v[k] + static_cast<C>(residual[i].v[k])));
      store_columns(sum, (lane + i * width) * kSize, p.n, p.aligned, x[i]);
    }
  }

  __device__ C sum() const {
    C total = 0;
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
#pragma unroll
      for (int k = 0; k < kSize; ++k) total += x[i].v[k];
    return total;
  }

  __device__ C squares(C mean, int lane, int width, int n) const {
    C total = 0;
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
      for_columns<kSize>((lane + i * width) * kSize, n, [&](int k) {
        const C deviation = x[i].v[k] - mean;
        total += deviation * deviation;
      });
    return total;
  }
};

// A thread's weights and biases for all of its rows: in shared memory where the warps of a block
// have the same columns, else in registers.
template <class T, int kPieces, bool kWarpRow>
struct Affine {
  using C = compute_t<T>;
  static constexpr int kSize = kVector<T>, kPart = 16 / sizeof(C), kParts = kSize / kPart;
  using Piece = Vector<C, kSize>;
  using Part = Vector<C, kPart>;
  struct Table {  // neighbouring lanes find their parts side by side
    Part parts[2][kPieces][kParts][kWarpRow ? kWarp : 1];
  };
  Table& table;
  Piece held[2][kPieces];
  int lane;

  __device__ Affine(const NormRows& p, int lane, int width, Table& memory)
      : table(memory), lane(lane) {
    if constexpr (kWarpRow) {
      for (int item = threadIdx.x; item < 2 * kPieces * kWarp; item += blockDim.x) {
        const int piece = item % (kPieces * kWarp), which = item / (kPieces * kWarp);
        const Piece values = read(p, which, piece);
#pragma unroll
        for (int k = 0; k < kSize; ++k)
          table.parts[which][piece / kWarp][k / kPart][piece % kWarp].v[k % kPart] = values.v[k];
      }
      __syncthreads();
    } else {
#pragma unroll
      for (int i = 0; i < kPieces; ++i)
        for (int which = 0; which < 2; ++which) held[which][i] = read(p, which, lane + i * width);
    }
  }

  // Not `which == 0 ? p.weight : p.bias`: that would put all of p into memory.
  __device__ static Piece read(const NormRows& p, int which, int piece) {
    const Channels from{which == 0 ? p.weight.data : p.bias.data,
                        which == 0 ? p.weight.wide : p.bias.wide};
    return channels<T>(from, piece * kSize, p.n, p.aligned, which == 0 ? C(1) : C(0));
  }
  // Piece i of the weights (0) or biases (1).
  __device__ Piece piece(int which, int i) const {
    if constexpr (kWarpRow) {
      Piece values;
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const Part some = table.parts[which][i][part][lane];
#pragma unroll
        for (int k = 0; k < kPart; ++k) values.v[part * kPart + k] = some.v[k];
      }
      return values;
    } else {
      return held[which][i];
    }
  }
};

// As many blocks as there is room for; each takes row after row, and reads the next one while it
// works on this one.
template <class T, int kPieces, bool kWarpRow, bool kAligned, Residual kResidual>
__global__ void __launch_bounds__(kWarpRow ? kWarpsPerBlock* kWarp : kMostRowThreads)
    norm_kernel(NormRows p) {
  p.aligned = kAligned;
  using C = compute_t<T>;
  constexpr int kSize = kVector<T>, kRows = kWarpRow ? kWarpsPerBlock : 1;
  __shared__ C shared[kWarp];
  __shared__ typename Affine<T, kPieces, kWarpRow>::Table table;
  const int lane = kWarpRow ? threadIdx.x % kWarp : threadIdx.x;
  const int width = kWarpRow ? kWarp : blockDim.x;
  const int64_t step = int64_t{gridDim.x} * kRows;
  int64_t row = int64_t{blockIdx.x} * kRows + (kWarpRow ? threadIdx.x / kWarp : 0);

  RowAhead<T, kPieces, kResidual> raw;
  raw.read(p, row, lane, width);
  const Affine<T, kPieces, kWarpRow> affine(p, lane, width, table);
  const C eps = static_cast<C>(p.eps), n = static_cast<C>(p.n);
  for (; row < p.rows; row += step) {
    RowInRegisters<T, kPieces> in(raw, p, row, lane, width);
    raw.read(p, row + step, lane, width);
    C mean = 0;
    if (p.centred()) mean = row_sum<kWarpRow>(in.sum(), shared) / n;
    // A second pass: E[x^2] - E[x]^2 would lose the digits of a small variance.
    const C squares = row_sum<kWarpRow>(in.squares(mean, lane, width, p.n), shared);
    const C rstd = C(1) / sqrt(squares / n + eps);
    if (lane == 0) {
      if (p.centred()) static_cast<C*>(p.mean)[row] = mean;
      static_cast<C*>(p.rstd)[row] = rstd;
    }
    T* y = static_cast<T*>(p.y) + row * p.n;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const auto weight = affine.piece(0, i), bias = affine.piece(1, i);
#pragma unroll
      for (int k = 0; k < kSize; ++k)
        in.x[i].v[k] = (in.x[i].v[k] - mean) * rstd * weight.v[k] + bias.v[k];
      store_columns(y, (lane + i * width) * kSize, p.n, p.aligned, in.x[i]);
    }
  }
}

// Any T and n.
template <class T>
__global__ void __launch_bounds__(kMostRowThreads) general_norm_kernel(NormRows p) {
  using C = compute_t<T>;
  __shared__ C shared[kWarp];
  const int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(p.x) + row * p.n;
  if (p.residual) {
    T* sum = static_cast<T*>(p.sum) + row * p.n;
    visit_residual<T>(p, [&](const auto* residual) {
      const auto* added = residual + row * p.n;
      for (int i = threadIdx.x; i < p.n; i += blockDim.x)
        sum[i] = static_cast<T>(static_cast<C>(x[i]) + static_cast<C>(added[i]));
    });
    x = sum;  // each thread reads below what it has written itself
  }
  C mean = 0;
  if (p.centred()) {
    C total = 0;
    for (int i = threadIdx.x; i < p.n; i += blockDim.x) total += static_cast<C>(x[i]);
    mean = block_sum(total, shared) / static_cast<C>(p.n);
  }
  C squares = 0;
  for (int i = threadIdx.x; i < p.n; i += blockDim.x) {
    const C deviation = static_cast<C>(x[i]) - mean;
    squares += deviation * deviation;
  }
  const C rstd = inverse_root(block_sum(squares, shared), p.n, p.eps);
  if (threadIdx.x == 0) {
    if (p.centred()) static_cast<C*>(p.mean)[row] = mean;
    static_cast<C*>(p.rstd)[row] = rstd;
  }
  T* y = static_cast<T*>(p.y) + row * p.n;
  for (int i = threadIdx.x; i < p.n; i += blockDim.x)
    y[i] = static_cast<T>((static_cast<C>(x[i]) - mean) * rstd * channel<T>(p.weight, i, C(1)) +
                          channel<T>(p.bias, i, C(0)));
}

template <class T, class Shape>
auto chosen_kernel(const NormRows& p) {
  constexpr int kPieces = Shape::pieces;
  constexpr bool kWarpRow = Shape::warp_row;
  if (!p.aligned) return norm_kernel<T, kPieces, kWarpRow, false, Residual::late>;
  if (!p.residual) return norm_kernel<T, kPieces, kWarpRow, true, Residual::none>;
  if constexpr (std::is_same_v<T, float>) {
    if (p.residual_dtype != DType::f32)
      return norm_kernel<T, kPieces, kWarpRow, true, Residual::late>;
  }
  return norm_kernel<T, kPieces, kWarpRow, true, Residual::ahead>;
}

template <class T>
bool launch_fast(NormRows p, Device device) {
  p.aligned = rows_are_aligned<T>(p.n, static_cast<const T*>(p.x), p.residual, p.sum, p.y);
  const cudaStream_t on = stream(device);
  return visit_row_shape<T>(p.n, [&](auto shape) {
    using S = decltype(shape);
    const auto kernel = chosen_kernel<T, S>(p);
    int resident = 0;
    TENDRIL_CUDA_CHECK(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, shape.threads, 0));
    const int64_t most = int64_t{resident} * properties(device).multiprocessors;
    kernel<<<blocks_for(p.rows, S::warp_row ? kWarpsPerBlock : 1, most), shape.threads, 0, on>>>(p);
  });
}

// `mean` undefined: rms_norm. `residual` and `sum` undefined: nothing is added.
void normalise(const char* op, const Tensor& x, const Tensor& residual, const Tensor& weight,
               const Tensor& bias, double eps, const Tensor& sum, const Tensor& y,
               const Tensor& mean, const Tensor& rstd) {
  if (rstd.numel() == 0) return;
  const Tensor in = contiguous(x);
  Tensor added;
  if (residual.defined()) {
    const bool narrow = x.dtype() == f32 && accumulate_dtype(residual.dtype()) == f32;
    added = contiguous(narrow ? residual : cast(residual, x.dtype()));
  }
  const auto pointer = [](const Tensor& t) { return t.defined() ? t.raw_data() : nullptr; };
  Tensor weights, biases;
  NormRows p{pointer(in),
             pointer(added),
             pointer(sum),
             pointer(y),
             pointer(mean),
             pointer(rstd),
             channels_of(weight, x.dtype(), weights),
             channels_of(bias, x.dtype(), biases),
             rstd.numel(),
             row_length(op, x),
             eps,
             added.defined() ? added.dtype() : x.dtype(),
             false};
  const cudaStream_t on = stream(x.device());
  bool done = false;
  visit_fast_type(x.dtype(), [&](auto tag) {
    done = launch_fast<typename decltype(tag)::type>(p, x.device());
  });
  if (!done)
    visit_floating(op, x.dtype(), [&](auto tag) {
      general_norm_kernel<typename decltype(tag)::type>
          <<<static_cast<unsigned>(p.rows), kMostRowThreads, 0, on>>>(p);
    });
  TENDRIL_CUDA_CHECK_LAUNCH(op);
}

}  // namespace

LayerNormResult layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                           int64_t rows) {
  const DType statistics = accumulate_dtype(x.dtype());
  const LayerNormResult result{Tensor::empty(x.shape(), x.dtype(), x.device()),
                               Tensor::empty({rows}, statistics, x.device()),
                               Tensor::empty({rows}, statistics, x.device())};
  normalise("layer_norm", x, {}, weight, bias, eps, {}, result.y, result.mean, result.rstd);
  return result;
}

RmsNormResult rms_norm(const Tensor& x, const Tensor& weight, double eps, int64_t rows) {
  const RmsNormResult result{Tensor::empty(x.shape(), x.dtype(), x.device()),
                             Tensor::empty({rows}, accumulate_dtype(x.dtype()), x.device())};
  normalise("rms_norm", x, {}, weight, {}, eps, {}, result.y, {}, result.rstd);
  return result;
}

AddLayerNormResult add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                  const Tensor& bias, double eps, int64_t rows) {
  const DType statistics = accumulate_dtype(x.dtype());
  const AddLayerNormResult result{Tensor::empty(x.shape(), x.dtype(), x.device()),
                                  Tensor::empty(x.shape(), x.dtype(), x.device()),
                                  Tensor::empty({rows}, statistics, x.device()),
                                  Tensor::empty({rows}, statistics, x.device())};
  normalise("add_layer_norm", x, residual, weight, bias, eps, result.sum, result.y, result.mean,
            result.rstd);
  return result;
}

}  // namespace tendril::ops::cuda
