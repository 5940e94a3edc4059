// Numbers to 8-bit codes and back on a GPU.
#include <algorithm>
#include <cmath>

#include <tendril/core/ops/code_book.h>
#include <tendril/core/cuda/runtime.cuh>
#include <tendril/core/ops/quantized_block.cuh>

namespace tendril::ops::cuda {
namespace {

using tendril::cpu::CodeFormulas;

constexpr int kThreads = 256;
constexpr int64_t kWarps = kThreads / tendril::cuda::kWarp;

// Where a warp's block is; it has none when `size` is 0.
struct Place {
  int64_t block, begin, size;
};
__device__ Place place_of_warp(int64_t numel) {
  const int64_t block = blockIdx.x * kWarps + threadIdx.x / tendril::cuda::kWarp;
  const int64_t begin = block * kQuantBlock, rest = numel - begin;
  return {block, begin, rest < 0 ? 0 : rest < kQuantBlock ? rest : kQuantBlock};
}
__device__ BlockPart part_of(const Place& place, bool aligned) {
  return {static_cast<int>(place.size), aligned && place.size == kQuantBlock};
}

struct QuantizeFaults {
  tendril::cuda::IndexFault* fault;
  tendril::cuda::HostText op, finite, not_negative;
};

template <bool kSigned>
__global__ void __launch_bounds__(kThreads)
    quantize_kernel(const float* x, int64_t numel, uint8_t* codes, float* absmax, bool aligned,
                    const __grid_constant__ CodeFormulas formulas, const QuantizeFaults faults) {
  __shared__ CodeFormulas map;
  copy_to_shared(formulas, map);
  const Place place = place_of_warp(numel);
  if (place.size == 0) return;
  const BlockPart part = part_of(place, aligned);
  float values[kLaneNumbers];
  load_numbers(x + place.begin, part, values);
  for (float& value : values) {
    const bool finite = tendril::cpu::is_finite(value);
    if (finite && (kSigned || !(value < 0.0f))) continue;
    faults.fault->report_value(faults.op, finite ? faults.not_negative : faults.finite, value);
    value = 0.0f;
  }
  const float largest = largest_magnitude(values);
  store_codes<kSigned>(map, values, largest, part, codes + place.begin);
  if (threadIdx.x % tendril::cuda::kWarp == 0) absmax[place.block] = largest;
}

template <bool kSigned>
__global__ void __launch_bounds__(kThreads)
    dequantize_kernel(const uint8_t* codes, const float* absmax, int64_t numel, float* x,
                      bool aligned, const __grid_constant__ CodeFormulas formulas) {
  __shared__ CodeFormulas map;
  copy_to_shared(formulas, map);
  const Place place = place_of_warp(numel);
  if (place.size == 0) return;
  const BlockPart part = part_of(place, aligned);
  float values[kLaneNumbers];
  load_codes<kSigned>(map, codes + place.begin, absmax[place.block], part, values);
  float* const to = x + place.begin;
  for_each_run(part, [&]<int N>(std::integral_constant<int, N>, int index, int element) {
    tendril::cuda::Vector<float, N> run;
    for (int j = 0; j < N; ++j) run.v[j] = values[index + j];
    tendril::cuda::store_vector<float, N>(to + element, run);
  });
}

}  // namespace

void quantize(const Tensor& x, const Quantized& to, CodeMap map) {
  const int64_t numel = x.numel();
  if (numel == 0) return;
  const cudaStream_t stream = tendril::cuda::stream(x.device());
  const auto kernel = map == CodeMap::with_sign ? quantize_kernel<true> : quantize_kernel<false>;
  const float* const values = x.data<float>();
  uint8_t* const codes = to.codes.data<uint8_t>();
  const QuantizeFaults faults = {tendril::cuda::index_fault(x.device()), "quantize_blockwise",
                                 "numbers must be finite",
                                 "the map without sign takes no negative number"};
  kernel<<<tendril::cuda::blocks_for(quant_blocks(numel), kWarps), kThreads, 0, stream>>>(
      values, numel, codes, to.absmax.data<float>(), tendril::cuda::aligned16(values, codes),
      code_book(map), faults);
  TENDRIL_CUDA_CHECK_LAUNCH("quantize_blockwise");
}

void dequantize(const Quantized& x, const Tensor& to, CodeMap map) {
  const int64_t numel = to.numel();
  if (numel == 0) return;
  const cudaStream_t stream = tendril::cuda::stream(to.device());
  const auto kernel =
      map == CodeMap::with_sign ? dequantize_kernel<true> : dequantize_kernel<false>;
  const uint8_t* const codes = x.codes.data<uint8_t>();
  float* const values = to.data<float>();
  kernel<<<tendril::cuda::blocks_for(quant_blocks(numel), kWarps), kThreads, 0, stream>>>(
      codes, x.absmax.data<float>(), numel, values, tendril::cuda::aligned16(values, codes),
      code_book(map));
  TENDRIL_CUDA_CHECK_LAUNCH("dequantize_blockwise");
}

}  // namespace tendril::ops::cuda
