// The norm of all gradients in two stages: one double per chunk, then one block over those. The
// order depends on the sizes only.
#include <tendril/core/ops/gradient_norm.h>

#include <cmath>
#include <vector>

#include <tendril/core/cuda/block.cuh>
#include <tendril/core/ops/gradient_batch.cuh>

namespace tendril::ops::cuda {
namespace {

constexpr int kThreads = kGradientThreads, kLastThreads = 1024;
constexpr int64_t kChunk = kGradientChunk;

using Batch = GradientBatch;

struct Squares {
  using Combine = tendril::cuda::Plus;
  __device__ static double term(double x) { return x * x; }
};
struct Magnitudes {
  using Combine = tendril::cuda::Larger;
  __device__ static double term(double x) { return fabs(x); }
};

// Chunks are handed to fewer blocks than there are: as many as work at the same time.
unsigned blocks_for_chunks(uint32_t chunks, Device device) {
  constexpr int kResident = 8;  // of a multiprocessor
  return tendril::cuda::blocks_for(chunks, 1,
                                   kResident * tendril::cuda::properties(device).multiprocessors);
}

// A thread's share of a chunk. Four vectors are read before the first is used, in turn into four
// sums: one would be a chain of additions of doubles.
template <class Term, class T>
__device__ double share_of(const Batch& batch, const Batch::Piece& piece) {
  constexpr int kVector = tendril::cuda::kVector<T>, kSums = 4;
  const typename Term::Combine combine;
  const T* x = batch.at<const T>(piece, 0);
  const int64_t vectors = piece.aligned ? piece.size / kVector : 0;
  double totals[kSums] = {};
  for (int64_t i = threadIdx.x; i < vectors; i += kSums * kThreads) {
    tendril::cuda::Packed raw[kSums] = {};
#pragma unroll
    for (int k = 0; k < kSums; ++k)
      if (i + k * kThreads < vectors)
        raw[k] = tendril::cuda::load_packed(x + (i + k * kThreads) * kVector);
#pragma unroll
    for (int k = 0; k < kSums; ++k) {
      const auto values = tendril::cuda::unpack_as<compute_t<T>, T>(raw[k]);
#pragma unroll
      for (int j = 0; j < kVector; ++j)
        totals[k] = combine(totals[k], Term::term(static_cast<double>(values.v[j])));
    }
  }
  double total = combine(combine(totals[0], totals[1]), combine(totals[2], totals[3]));
  for (int64_t i = vectors * kVector + threadIdx.x; i < piece.size; i += kThreads)
    total = combine(total, Term::term(static_cast<double>(x[i])));
  return total;
}

// pieces[i] for chunk i
template <class Term, class T>
__global__ void __launch_bounds__(kThreads)
    pieces_kernel(const __grid_constant__ Batch batch, double* pieces) {
  __shared__ double shared[tendril::cuda::kWarp];
  const typename Term::Combine combine;
  for (uint32_t chunk = blockIdx.x; chunk < batch.chunks(); chunk += gridDim.x) {
    double total = share_of<Term, T>(batch, batch.piece(chunk));
    total = tendril::cuda::block_reduce(total, combine, 0.0, shared);
    if (threadIdx.x == 0) pieces[chunk] = total;
  }
}

template <class Term>
__global__ void __launch_bounds__(kLastThreads)
    combine_kernel(const double* pieces, int64_t count, bool root, double* result) {
  __shared__ double shared[tendril::cuda::kWarp];
  const typename Term::Combine combine;
  double total = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kLastThreads) total = combine(total, pieces[i]);
  total = tendril::cuda::block_reduce(total, combine, 0.0, shared);
  if (threadIdx.x == 0) *result = root ? sqrt(total) : total;
}

// factor = max_norm / (norm + 1e-6), unless that would not shrink anything.
template <class T>
__global__ void __launch_bounds__(kThreads)
    clip_kernel(const __grid_constant__ Batch batch, const double* norm, double max_norm) {
  const double factor = max_norm / (*norm + 1e-6);
  if (!isfinite(*norm) || factor >= 1.0) return;
  const auto by = static_cast<compute_t<T>>(factor);
  for (uint32_t chunk = blockIdx.x; chunk < batch.chunks(); chunk += gridDim.x)
    change_piece<T>(batch, batch.piece(chunk),
                    [&](T x) { return T(static_cast<compute_t<T>>(x) * by); });
}

template <class Term>
Tensor reduce_all(std::span<const Tensor> tensors, bool root) {
  const Device device = tensors[0].device();
  const cudaStream_t stream = tendril::cuda::stream(device);
  int64_t count = 0;
  for (const Tensor& x : tensors) count += (x.numel() + kChunk - 1) / kChunk;
  const Tensor pieces = Tensor::empty({count}, f64, device);
  double* next = pieces.data<double>();
  for_each_gradient_batch("grad_norm", tensors, [&]<class T>(TypeTag<T>, const Batch& batch) {
    pieces_kernel<Term, T>
        <<<blocks_for_chunks(batch.chunks(), device), kThreads, 0, stream>>>(batch, next);
    next += batch.chunks();
  });
  const Tensor result = Tensor::empty({}, f64, device);
  combine_kernel<Term>
      <<<1, kLastThreads, 0, stream>>>(pieces.data<double>(), count, root, result.data<double>());
  TENDRIL_CUDA_CHECK_LAUNCH("grad_norm");
  return result;
}

}  // namespace

Tensor norm_of_all(std::span<const Tensor> tensors, double norm_type) {
  return norm_type == 2.0 ? reduce_all<Squares>(tensors, /*root=*/true)
                          : reduce_all<Magnitudes>(tensors, /*root=*/false);
}

void clip_all(std::span<const Tensor> tensors, const Tensor& norm, double max_norm) {
  const cudaStream_t stream = tendril::cuda::stream(norm.device());
  for_each_gradient_batch("clip_grad_norm", tensors, [&]<class T>(TypeTag<T>, const Batch& batch) {
    clip_kernel<T><<<blocks_for_chunks(batch.chunks(), norm.device()), kThreads, 0, stream>>>(
        batch, norm.data<double>(), max_norm);
  });
  TENDRIL_CUDA_CHECK_LAUNCH("clip_grad_norm");
}

double sum_of_squares(const Tensor& x) {
  visit_floating("sum_of_squares", x.dtype(), [](auto) {});
  return reduce_all<Squares>({&x, 1}, /*root=*/false).item<double>();
}

double largest_magnitude(const Tensor& x) {
  visit_floating("largest_magnitude", x.dtype(), [](auto) {});
  return reduce_all<Magnitudes>({&x, 1}, /*root=*/false).item<double>();
}

}  // namespace tendril::ops::cuda
