// Blocks of 256 numbers in 8 bits on a GPU: a warp has one, and each of its lanes eight numbers of
// it, two runs of four.
#pragma once

#include <cstdint>
#include <type_traits>

#include <tendril/core/ops/quantize_blockwise.h>
#include <tendril/core/ops/quantized_element.h>
#include <tendril/core/cuda/block.cuh>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::ops::cuda {

inline constexpr int kLaneNumbers = static_cast<int>(kQuantBlock) / tendril::cuda::kWarp;

/// Which numbers of a block a warp may touch, and how.
struct BlockPart {
  int count;      // the last block of a tensor may be a part of one
  bool by_fours;  // all 256, in memory that allows accesses to four at once
};

/// Calls body(std::integral_constant<int, N>, index, element) for the numbers of the calling lane:
/// N neighbours from `element` of the block on, which are the lane's own from `index` on.
template <class Body>
__device__ void for_each_run(const BlockPart& part, const Body& body) {
  constexpr int kRun = 4;
  const int lane = static_cast<int>(threadIdx.x) % tendril::cuda::kWarp;
#pragma unroll
  for (int index = 0; index < kLaneNumbers; index += kRun) {
    const int first = index * tendril::cuda::kWarp + lane * kRun;
    if (part.by_fours) {
      body(std::integral_constant<int, kRun>(), index, first);
      continue;
    }
#pragma unroll
    for (int j = 0; j < kRun; ++j)
      if (first + j < part.count) body(std::integral_constant<int, 1>(), index + j, first + j);
  }
}

/// The lane's numbers of a tensor whose block begins at `from`, as floats; 0 beyond the part.
template <class T>
__device__ void load_numbers(const T* from, const BlockPart& part, float (&x)[kLaneNumbers]) {
  for (float& value : x) value = 0.0f;
  for_each_run(part, [&]<int N>(std::integral_constant<int, N>, int index, int element) {
    const auto values = tendril::cuda::load_vector<T, N>(from + element);
    for (int j = 0; j < N; ++j) x[index + j] = static_cast<float>(values.v[j]);
  });
}

/// The same for numbers that are codes.
template <bool kSigned>
__device__ void load_codes(const tendril::cpu::CodeFormulas& map, const uint8_t* codes,
                           float absmax, const BlockPart& part, float (&x)[kLaneNumbers]) {
  for (float& value : x) value = 0.0f;
  for_each_run(part, [&]<int N>(std::integral_constant<int, N>, int index, int element) {
    const auto values = tendril::cuda::load_vector<uint8_t, N>(codes + element);
    for (int j = 0; j < N; ++j)
      x[index + j] = tendril::cpu::value_of_code<kSigned>(map, values.v[j]) * absmax;
  });
}

/// The block's largest magnitude, in every lane. Magnitudes are ordered as their bits are.
__device__ inline float largest_magnitude(const float (&x)[kLaneNumbers]) {
  int32_t largest = 0;
  for (const float value : x) {
    const int32_t bits = tendril::cpu::bits_of(value) & tendril::cpu::kMagnitude;
    largest = bits > largest ? bits : largest;
  }
  return tendril::cpu::from_bits(tendril::cuda::warp_reduce(largest, tendril::cuda::Larger()));
}

/// The codes of finite numbers whose block has this largest magnitude.
template <bool kSigned>
__device__ void store_codes(const tendril::cpu::CodeFormulas& map, const float (&x)[kLaneNumbers],
                            float largest, const BlockPart& part, uint8_t* codes) {
  const float scale = tendril::cpu::inverse_scale(largest);
  for_each_run(part, [&]<int N>(std::integral_constant<int, N>, int index, int element) {
    tendril::cuda::Vector<uint8_t, N> values;
    for (int j = 0; j < N; ++j)
      values.v[j] =
          static_cast<uint8_t>(tendril::cpu::code_of_value<kSigned>(map, x[index + j], scale));
    tendril::cuda::store_vector<uint8_t, N>(codes + element, values);
  });
}

/// For tables that lanes look up at different places, which parameters of a kernel are slow for.
/// All threads of the block must call it, and may use `to` afterwards.
template <class Table>
__device__ void copy_to_shared(const Table& from, Table& to) {
  static_assert(sizeof(Table) % sizeof(int32_t) == 0 && std::is_trivially_copyable_v<Table>);
  for (size_t i = threadIdx.x; i < sizeof(Table) / sizeof(int32_t); i += blockDim.x)
    reinterpret_cast<int32_t*>(&to)[i] = reinterpret_cast<const int32_t*>(&from)[i];
  __syncthreads();
}

}  // namespace tendril::ops::cuda
