// Stands before core/cuda/mma.cuh on the emulated GPU: the same functions without the instructions
// of the GPU. How the fragments are spread over the lanes is written there.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <source_location>
#include <type_traits>

#include <tendril/core/cuda/tile.h>
#include <tendril/core/half.h>

#include "../../../../fragments.h"

namespace tendril::cuda {

inline uint32_t shared_address(const void* pointer) { return emulated::shared_address(pointer); }

inline emulated::MatrixRow matrix_row(uint32_t address) {
  emulated::MatrixRow row;
  std::memcpy(&row, emulated::shared_at(address, sizeof row), sizeof row);
  return row;
}

inline void load_matrices(uint32_t (&r)[4], uint32_t address,
                          std::source_location place = std::source_location::current()) {
  const auto words =
      emulated::combined<emulated::distribute, emulated::FourWords>(matrix_row(address), place);
  for (size_t i = 0; i < 4; ++i) r[i] = words[i];
}

inline void load_matrices_transposed(uint32_t (&r)[4], uint32_t address,
                                     std::source_location place = std::source_location::current()) {
  const auto words = emulated::combined<emulated::distribute_transposed, emulated::FourWords>(
      matrix_row(address), place);
  for (size_t i = 0; i < 4; ++i) r[i] = words[i];
}

/// c += a b
template <class T>
inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                         std::source_location place = std::source_location::current()) {
  static_assert(std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>);
  constexpr auto multiply =
      std::is_same_v<T, bfloat16> ? emulated::multiply_bfloat16 : emulated::multiply_float16;
  const emulated::Operands mine{{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
  const auto sums = emulated::combined<multiply, emulated::FourSums>(mine, place);
  for (size_t i = 0; i < 4; ++i) c[i] = sums[i];
}

inline uint32_t two(uint16_t low, uint16_t high) { return low | uint32_t{high} << 16; }

template <class T>
inline uint32_t pack(float low, float high) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return two(tendril::detail::bfloat16_from_float(low),
               tendril::detail::bfloat16_from_float(high));
  else
    return two(tendril::detail::float16_from_float(low), tendril::detail::float16_from_float(high));
}

/// Numbers and results too small for a normal float count as 0.
inline float exp2_approximate(float x) {
  const float result = std::exp2(x);
  return result < std::numeric_limits<float>::min() ? 0.0f : result;
}

inline void copy_async(uint32_t destination, const void* source, bool valid) {
  emulated::copy_async(emulated::shared_at(destination, 16), source, 16, valid ? 16 : 0);
}
inline void copy_async_8(uint32_t destination, const void* source, bool valid) {
  emulated::copy_async(emulated::shared_at(destination, 8), source, 8, valid ? 8 : 0);
}
inline void commit_copies() { emulated::commit_copies(); }
template <int kPending>
inline void wait_copies() {
  emulated::wait_copies(kPending);
}

}  // namespace tendril::cuda
