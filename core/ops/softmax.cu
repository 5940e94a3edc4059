// softmax and log_softmax on the GPU. The axis is moved to the end; then a warp has a row that fits
// its registers, a block any other.
#include <tendril/core/ops/softmax.h>

#include <algorithm>

#include <tendril/core/cpu/vecmath.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/cuda/block.cuh>
#include <tendril/core/cuda/columns.cuh>
#include <tendril/core/cuda/runtime.cuh>

namespace tendril::ops::cuda {
namespace {

using namespace tendril::cuda;

constexpr int kThreads = 256, kWarpPieces = 4;

struct Rows {
  int64_t rows;
  int n;
  bool aligned;  // every row begins at 16 bytes
};

// The threads of one row: a warp or a block.
template <bool kWarpRow, class C>
struct Team {
  int lane, width;
  int64_t row;
  C* shared;

  __device__ explicit Team(C* memory)
      : lane(kWarpRow ? threadIdx.x % kWarp : threadIdx.x),
        width(kWarpRow ? kWarp : blockDim.x),
        row(kWarpRow ? static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp
                     : blockIdx.x),
        shared(memory) {}

  __device__ C sum(C value) const {
    if constexpr (kWarpRow) return warp_sum(value);
    return block_sum(value, shared);
  }
  __device__ C maximum(C value) const {
    if constexpr (kWarpRow) return warp_reduce(value, Larger());
    return block_reduce(value, Larger(), C(-INFINITY), shared);
  }
};

// A thread's pieces of a row: in registers for a warp's row, else read anew by every pass.
template <class T, bool kWarpRow>
struct Pieces {
  using C = compute_t<T>;
  static constexpr int kSize = kVector<T>;
  const T* row;
  Rows size;
  int lane, width;
  Vector<T, kSize> held[kWarpRow ? kWarpPieces : 1];

  __device__ Pieces(const T* x, const Rows& rows, const Team<kWarpRow, C>& team)
      : row(x + team.row * rows.n), size(rows), lane(team.lane), width(team.width) {
    if constexpr (kWarpRow) {
#pragma unroll
      for (int i = 0; i < kWarpPieces; ++i)
        held[i] = load_raw_columns<kSize>(row, (lane + i * kWarp) * kSize, size.n, size.aligned);
    }
  }

  // body(first column, piece in C, i) for each of the thread's pieces; i counts them in a warp's
  // row
  template <class Body>
  __device__ void visit(Body body) const {
    if constexpr (kWarpRow) {
#pragma unroll
      for (int i = 0; i < kWarpPieces; ++i)
        body((lane + i * kWarp) * kSize, convert_columns<C>(held[i]), i);
    } else {
      for (int first = lane * kSize; first < size.n; first += width * kSize)
        body(first, load_columns<C, kSize>(row, first, size.n, size.aligned), 0);
    }
  }
};

// y = softmax(x) or log_softmax(x) of every row.
template <class T, bool kWarpRow>
__global__ void __launch_bounds__(kThreads) softmax_kernel(const T* x, T* y, Rows rows, bool log) {
  using C = compute_t<T>;
  constexpr int kSize = kVector<T>;
  __shared__ C shared[kWarp];
  const Team<kWarpRow, C> team(shared);
  if (team.row >= rows.rows) return;  // a whole warp
  const Pieces<T, kWarpRow> in(x, rows, team);

  C maximum = -INFINITY;
  in.visit([&](int first, const auto& piece, int) {
    for_columns<kSize>(first, rows.n, [&](int k) { maximum = fmax(maximum, piece.v[k]); });
  });
  maximum = team.maximum(maximum);
  C sum = 0;
  in.visit([&](int first, const auto& piece, int) {
    for_columns<kSize>(first, rows.n, [&](int k) { sum += vec::exp(piece.v[k] - maximum); });
  });
  sum = team.sum(sum);
  const C log_sum = vec::log(sum), factor = C(1) / sum;
  T* out = y + team.row * rows.n;
  in.visit([&](int first, auto piece, int) {
#pragma unroll
    for (int k = 0; k < kSize; ++k) {
      const C shifted = piece.v[k] - maximum;
      piece.v[k] = log ? shifted - log_sum : vec::exp(shifted) * factor;
    }
    store_columns(out, first, rows.n, rows.aligned, piece);
  });
}

// softmax: dx = y (g - sum g y); log_softmax: dx = g - exp(y) sum g.
template <class T, bool kWarpRow>
__global__ void __launch_bounds__(kThreads)
    softmax_backward_kernel(const T* g, const T* y, T* dx, Rows rows, bool log) {
  using C = compute_t<T>;
  constexpr int kSize = kVector<T>;
  __shared__ C shared[kWarp];
  const Team<kWarpRow, C> team(shared);
  if (team.row >= rows.rows) return;  // a whole warp
  const Pieces<T, kWarpRow> gradient(g, rows, team), output(y, rows, team);
  const auto output_piece = [&](int first, int i) {
    if constexpr (kWarpRow)
      return convert_columns<C>(output.held[i]);
    else
      return load_columns<C, kSize>(output.row, first, rows.n, rows.aligned);
  };

  C sum = 0;  // the pieces are 0 beyond the end of the row
  gradient.visit([&](int first, const auto& gs, int i) {
    const auto ys = output_piece(first, i);
#pragma unroll
    for (int k = 0; k < kSize; ++k) sum += log ? gs.v[k] : gs.v[k] * ys.v[k];
  });
  sum = team.sum(sum);
  T* out = dx + team.row * rows.n;
  gradient.visit([&](int first, auto gs, int i) {
    const auto ys = output_piece(first, i);
#pragma unroll
    for (int k = 0; k < kSize; ++k)
      gs.v[k] = log ? gs.v[k] - vec::exp(ys.v[k]) * sum : ys.v[k] * (gs.v[k] - sum);
    store_columns(out, first, rows.n, rows.aligned, gs);
  });
}

// The tensor with `axis` at the end, dense.
Tensor axis_last(const Tensor& x, int64_t axis) {
  return contiguous(axis == x.rank() - 1 || x.rank() == 0 ? x : transpose(x, axis, -1));
}

// Back to where the axis was.
Tensor axis_back(const Tensor& x, int64_t axis) {
  return axis == x.rank() - 1 || x.rank() == 0 ? x : contiguous(transpose(x, axis, -1));
}

Rows rows_of(const char* op, const Tensor& x) {
  const int64_t n = x.rank() == 0 ? 1 : x.size(-1);
  constexpr int64_t kMost = int64_t{1} << 30;
  TENDRIL_CHECK(n <= kMost, "[", op, "] rows are too long for a GPU; got ", n, "; at most ", kMost);
  return {x.numel() / n, static_cast<int>(n), false};
}

// launch(std::bool_constant<whether a warp has a row>, blocks, threads)
template <class T, class Launch>
void for_shape(const Rows& rows, Launch launch) {
  const int64_t pieces = (rows.n + kVector<T> - 1) / kVector<T>;
  if (pieces <= kWarpPieces * kWarp)
    launch(std::true_type(), blocks_for(rows.rows, kThreads / kWarp));
  else
    launch(std::false_type(), blocks_for(rows.rows, 1));
}

Tensor forward(const char* op, const Tensor& x, int64_t axis, bool log) {
  if (x.numel() == 0) return Tensor::empty(x.shape(), x.dtype(), x.device());
  const Tensor in = axis_last(x, axis);
  const Tensor y = Tensor::empty(in.shape(), in.dtype(), in.device());
  Rows rows = rows_of(op, in);
  const cudaStream_t on = stream(x.device());
  visit_floating(op, x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* from = in.data<T>();
    T* to = y.data<T>();
    rows.aligned = rows_are_aligned(rows.n, from, to);
    for_shape<T>(rows, [&](auto warp_row, unsigned blocks) {
      softmax_kernel<T, warp_row.value><<<blocks, kThreads, 0, on>>>(from, to, rows, log);
    });
  });
  TENDRIL_CUDA_CHECK_LAUNCH(op);
  return axis_back(y, axis);
}

Tensor backward(const char* op, const Tensor& g, const Tensor& y, int64_t axis, bool log) {
  if (y.numel() == 0) return Tensor::empty(y.shape(), y.dtype(), y.device());
  const Tensor gradient = axis_last(g, axis), output = axis_last(y, axis);
  const Tensor dx = Tensor::empty(output.shape(), output.dtype(), output.device());
  Rows rows = rows_of(op, output);
  const cudaStream_t on = stream(y.device());
  visit_floating(op, y.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T *gs = gradient.data<T>(), *ys = output.data<T>();
    T* to = dx.data<T>();
    rows.aligned = rows_are_aligned(rows.n, gs, ys, to);
    for_shape<T>(rows, [&](auto warp_row, unsigned blocks) {
      softmax_backward_kernel<T, warp_row.value>
          <<<blocks, kThreads, 0, on>>>(gs, ys, to, rows, log);
    });
  });
  TENDRIL_CUDA_CHECK_LAUNCH(op);
  return axis_back(dx, axis);
}

}  // namespace

Tensor softmax(const Tensor& x, int64_t axis) { return forward("softmax", x, axis, false); }

Tensor log_softmax(const Tensor& x, int64_t axis) { return forward("log_softmax", x, axis, true); }

Tensor softmax_backward(const Tensor& g, const Tensor& y, int64_t axis) {
  return backward("softmax_backward", g, y, axis, false);
}

Tensor log_softmax_backward(const Tensor& g, const Tensor& y, int64_t axis) {
  return backward("log_softmax_backward", g, y, axis, true);
}

}  // namespace tendril::ops::cuda
