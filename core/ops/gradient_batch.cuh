// Private to core: what passes over all gradients have in common, whatever their dtypes and sizes.
#pragma once

#include <span>
#include <vector>

#include <tendril/core/cuda/tensor_batch.h>
#include <tendril/core/tensor.h>
#include <tendril/core/cuda/runtime.cuh>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::ops::cuda {

inline constexpr int kGradientThreads = 256;
inline constexpr int64_t kGradientChunk = int64_t{1} << 15;  // elements per block

using GradientBatch = tendril::cuda::TensorBatch<1, kGradientChunk>;

/// Calls launch(TypeTag, batch) for all tensors, which are dense, those of one dtype after another.
template <class Launch>
void for_each_gradient_batch(const char* op, std::span<const Tensor> tensors,
                             const Launch& launch) {
  for (const DType dtype : {f64, f32, bf16, f16}) {
    std::vector<GradientBatch::Entry> entries;
    for (const Tensor& x : tensors)
      if (x.dtype() == dtype)
        entries.push_back({{x.raw_data()}, x.numel(), tendril::cuda::aligned16(x.raw_data())});
    visit_floating(op, dtype, [&](auto type) {
      tendril::cuda::for_each_batch<GradientBatch>(
          entries, [&](const GradientBatch& batch) { launch(type, batch); });
    });
  }
}

/// x = change(x) for all elements of a piece.
template <class T, class Change>
__device__ void change_piece(const GradientBatch& batch, const GradientBatch::Piece& piece,
                             const Change& change) {
  constexpr int kVector = tendril::cuda::kVector<T>;
  T* x = batch.at<T>(piece, 0);
  const int64_t vectors = piece.aligned ? piece.size / kVector : 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < vectors; i += kGradientThreads) {
    auto values = tendril::cuda::load_vector(x + i * kVector);
#pragma unroll
    for (int j = 0; j < kVector; ++j) values.v[j] = change(values.v[j]);
    tendril::cuda::store_vector(x + i * kVector, values);
  }
  for (int64_t i = vectors * kVector + threadIdx.x; i < piece.size; i += kGradientThreads)
    x[i] = change(x[i]);
}

}  // namespace tendril::ops::cuda
