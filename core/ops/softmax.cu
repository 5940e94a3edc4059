// softmax and log_softmax on the GPU. The axis is moved to the end; then a warp has a row that fits
// its registers, a block any other; the longest do not fit those of a block either.
#include <tendril/core/ops/softmax.h>

#include <algorithm>

#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/cuda/block.cuh>
#include <tendril/core/cuda/columns.cuh>
#include <tendril/core/cuda/exponential.cuh>
#include <tendril/core/cuda/runtime.cuh>

namespace tendril::ops::cuda {
namespace {

using namespace tendril::cuda;

constexpr int kThreads = 256;

struct Rows {
  int64_t rows;
  int n;
  bool aligned;  // every row begins at 16 bytes
};

// The threads of one row, a warp or a block; each keeps kPieces pieces of it in registers, or with
// 0 reads them anew in every pass.
template <bool kWarpRow, int kPieces>
struct RowShape {
  static constexpr bool warp_row = kWarpRow;
  static constexpr int pieces = kPieces;
};

template <class S, class C>
struct Team {
  int lane, width;
  int64_t row;
  C* shared;

  __device__ explicit Team(C* memory)
      : lane(S::warp_row ? threadIdx.x % kWarp : threadIdx.x),
        width(S::warp_row ? kWarp : blockDim.x),
        row(S::warp_row
                ? static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp
                : blockIdx.x),
        shared(memory) {}

  __device__ C sum(C value) const {
    if constexpr (S::warp_row) return warp_sum(value);
    return block_sum(value, shared);
  }
  __device__ C maximum(C value) const {
    if constexpr (S::warp_row) return warp_reduce(value, Larger());
    return block_reduce(value, Larger(), C(-INFINITY), shared);
  }
};

// A thread's pieces of a row.
template <class T, class S, bool kAligned>
struct Pieces {
  using C = compute_t<T>;
  static constexpr int kSize = kVector<T>;
  const T* row;
  int n, lane, width;
  Packed held[S::pieces > 0 ? S::pieces : 1];

  __device__ Pieces(const T* x, const Rows& rows, const Team<S, C>& team)
      : row(x + team.row * rows.n), n(rows.n), lane(team.lane), width(team.width) {
#pragma unroll
    for (int i = 0; i < S::pieces; ++i)
      held[i] = load_packed_columns(row, (lane + i * width) * kSize, n, kAligned);
  }

  // The piece at a column, the thread's i-th; 0 beyond the end of the row.
  __device__ Vector<C, kSize> piece(int first, int i) const {
    if constexpr (S::pieces > 0) return unpack_as<C, T>(held[i]);
    return load_columns<C, kSize>(row, first, n, kAligned);
  }

  // body(first column, i) for each of the thread's pieces.
  template <class Body>
  __device__ void visit(Body body) const {
    if constexpr (S::pieces > 0) {
#pragma unroll
      for (int i = 0; i < S::pieces; ++i) body((lane + i * width) * kSize, i);
    } else {
      for (int first = lane * kSize; first < n; first += width * kSize) body(first, 0);
    }
  }

  // body(x) for each number.
  template <class Body>
  __device__ void visit_numbers(Body body) const {
    visit([&](int first, int i) {
      const auto values = piece(first, i);
      if (kAligned && first >= n) return;
#pragma unroll
      for (int k = 0; k < kSize; ++k)
        if (kAligned || first + k < n) body(values.v[k]);
    });
  }
};

// y = softmax(x) or log_softmax(x) of every row.
template <class T, class S, bool kAligned>
__global__ void __launch_bounds__(kThreads) softmax_kernel(const T* x, T* y, Rows rows, bool log) {
  using C = compute_t<T>;
  constexpr int kSize = kVector<T>;
  __shared__ C shared[kWarp];
  const Team<S, C> team(shared);
  if (team.row >= rows.rows) return;  // a whole warp
  const Pieces<T, S, kAligned> in(x, rows, team);

  C maximum = -INFINITY;
  in.visit_numbers([&](C value) { maximum = fmax(maximum, value); });
  maximum = team.maximum(maximum);
  const Exponential<T> exponential(maximum);
  C sum = 0;
  in.visit_numbers([&](C value) { sum += exponential(value); });
  sum = team.sum(sum);
  const C log_sum = vec::log(sum), factor = C(1) / sum;
  T* out = y + team.row * rows.n;
  in.visit([&](int first, int i) {
    auto values = in.piece(first, i);
#pragma unroll
    for (int k = 0; k < kSize; ++k)
      values.v[k] =
          log ? exponential.log_share(values.v[k], log_sum) : exponential(values.v[k]) * factor;
    store_columns(out, first, rows.n, kAligned, values);
  });
}

// softmax: dx = y (g - sum g y); log_softmax: dx = g - exp(y) sum g.
template <class T, class S, bool kAligned>
__global__ void __launch_bounds__(kThreads)
    softmax_backward_kernel(const T* g, const T* y, T* dx, Rows rows, bool log) {
  using C = compute_t<T>;
  constexpr int kSize = kVector<T>;
  __shared__ C shared[kWarp];
  const Team<S, C> team(shared);
  if (team.row >= rows.rows) return;  // a whole warp
  const Pieces<T, S, kAligned> gradient(g, rows, team), output(y, rows, team);

  C sum = 0;  // the pieces are 0 beyond the end of the row
  gradient.visit([&](int first, int i) {
    const auto gs = gradient.piece(first, i), ys = output.piece(first, i);
#pragma unroll
    for (int k = 0; k < kSize; ++k) sum += log ? gs.v[k] : gs.v[k] * ys.v[k];
  });
  sum = team.sum(sum);
  const Exponential<T> exponential(C(0));
  T* out = dx + team.row * rows.n;
  gradient.visit([&](int first, int i) {
    auto gs = gradient.piece(first, i);
    const auto ys = output.piece(first, i);
#pragma unroll
    for (int k = 0; k < kSize; ++k)
      gs.v[k] = log ? gs.v[k] - exponential(ys.v[k]) * sum : ys.v[k] * (gs.v[k] - sum);
    store_columns(out, first, rows.n, kAligned, gs);
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

// launch(RowShape, std::bool_constant<whether rows are aligned>, blocks, threads)
template <class T, class Launch>
void for_shape(const Rows& rows, Launch launch) {
  const int64_t pieces = (rows.n + kVector<T> - 1) / kVector<T>;
  const auto with = [&](auto shape, unsigned blocks, int threads) {
    rows.aligned ? launch(shape, std::true_type(), blocks, threads)
                 : launch(shape, std::false_type(), blocks, threads);
  };
  const auto block = [&](auto shape) {
    constexpr int kEach = decltype(shape)::pieces;
    const int64_t threads = kEach == 0 ? kThreads : (pieces + kEach - 1) / kEach;
    with(shape, blocks_for(rows.rows, 1), static_cast<int>((threads + kWarp - 1) / kWarp * kWarp));
  };
  constexpr int kFew = 4, kMany = 8;
  if (pieces <= kFew * kWarp)
    with(RowShape<true, kFew>(), blocks_for(rows.rows, kThreads / kWarp), kThreads);
  else if (pieces <= kFew * kThreads)
    block(RowShape<false, kFew>());
  else if (pieces <= kMany * kThreads)
    block(RowShape<false, kMany>());
  else
    block(RowShape<false, 0>());
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
    for_shape<T>(rows, [&](auto shape, auto aligned, unsigned blocks, int threads) {
      softmax_kernel<T, decltype(shape), aligned.value>
          <<<blocks, threads, 0, on>>>(from, to, rows, log);
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
    for_shape<T>(rows, [&](auto shape, auto aligned, unsigned blocks, int threads) {
      softmax_backward_kernel<T, decltype(shape), aligned.value>
          <<<blocks, threads, 0, on>>>(gs, ys, to, rows, log);
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
