// Attention's kernels: what they can do, and how one is chosen and launched.
// Private to core/ops/attention*.cu.
#pragma once

#include <cuda_runtime.h>

#include <tendril/core/dtype.h>
#include <tendril/core/cuda/runtime.cuh>
#include <tendril/core/ops/attention_sequences.cuh>

namespace tendril::ops::cuda {

/// 16-bit numbers, D a multiple of 8 up to 128, rows dense and aligned to 16 bytes, scale > 0.
/// `sequences` is null for a single one, here and below.
void fast_attention_forward(const AttentionForward& problem, const PackedSequences* sequences,
                            DType dtype, cudaStream_t stream);
void fast_attention_backward(const AttentionBackward& problem, const PackedSequences* sequences,
                             DType dtype, cudaStream_t stream);
/// Shared memory that a block of fast_attention_backward takes at most; some devices have less.
int64_t fast_attention_backward_bytes(int64_t D);
/// Fills problem.delta as the backward passes here and below need it.
void fast_attention_deltas(const AttentionBackward& problem, DType dtype, cudaStream_t stream);

/// The same on compute capability 9.0 (built where the compiler knows 9.0a), no mask, no dropout.
void hopper_attention_forward(const AttentionForward& problem, DType dtype, cudaStream_t stream);
void hopper_attention_backward(const AttentionBackward& problem, DType dtype, cudaStream_t stream);

/// Any strides, D and floating dtype.
void general_attention_forward(const AttentionForward& problem, const PackedSequences* sequences,
                               DType dtype, cudaStream_t stream);
void general_attention_backward(const AttentionBackward& problem, const PackedSequences* sequences,
                                DType dtype, cudaStream_t stream);

template <class T, int kD, bool kExtras>
struct FastTag {};

/// Calls body(FastTag<T, kD, kExtras>{}) with the smallest head size that holds D; kExtras when
/// there is a mask, dropout or more than one sequence.
template <class Body>
void visit_fast(const AttentionProblem& problem, const PackedSequences* sequences, DType dtype,
                const Body& body) {
  const auto with_extras = [&]<class T, int kD>() {
    if (problem.drops || problem.mask_kind != MaskKind::none || sequences)
      body(FastTag<T, kD, true>{});
    else
      body(FastTag<T, kD, false>{});
  };
  const auto with_size = [&]<class T>() {
    if (problem.D <= 32)
      with_extras.template operator()<T, 32>();
    else if (problem.D <= 64)
      with_extras.template operator()<T, 64>();
    else if (problem.D <= 96)
      with_extras.template operator()<T, 96>();
    else
      with_extras.template operator()<T, 128>();
  };
  if (dtype == bf16)
    with_size.template operator()<bfloat16>();
  else
    with_size.template operator()<float16>();
}

/// Starts `blocks` blocks of a kernel that takes these parameters by value; none for nothing to do.
template <class... Parameters>
void launch_attention(void (*kernel)(Parameters...), int64_t blocks, int threads,
                      uint32_t shared_bytes, cudaStream_t stream,
                      const std::type_identity_t<Parameters>&... parameters) {
  if (blocks == 0) return;
  TENDRIL_CHECK(blocks < int64_t{1} << 31,
                "[scaled_dot_product_attention] needs fewer than 2^31 "
                "blocks of queries; got ",
                blocks);
  TENDRIL_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          static_cast<int>(shared_bytes)));
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  TENDRIL_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, parameters...));
}

}  // namespace tendril::ops::cuda
