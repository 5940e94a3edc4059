// Stands before core/cuda/mma.cuh on the emulated GPU: the same functions without the instructions
// of the GPU. How the fragments are spread over the lanes is written there.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <source_location>
#include <type_traits>

#include <tendril/core/cuda/tile.h>
#include <tendril/core/half.h>

namespace tendril::cuda {

inline uint32_t shared_address(const void* pointer) { return emulated::shared_address(pointer); }

namespace fragments {

using MatrixRow = std::array<uint16_t, 8>;

// What all lanes see: lane i holds row i % 8 of matrix i / 8.
inline std::array<MatrixRow, 32> exchange_rows(uint32_t address, std::source_location place) {
  MatrixRow row;
  std::memcpy(&row, emulated::shared_at(address, sizeof row), sizeof row);
  return emulated::exchange(row, place);
}

inline uint32_t two(uint16_t low, uint16_t high) { return low | uint32_t{high} << 16; }

template <class T>
inline void unpack(float (&x)[2], uint32_t both) {
  for (int i = 0; i < 2; ++i) {
    const auto bits = static_cast<uint16_t>(both >> (16 * i));
    if constexpr (std::is_same_v<T, bfloat16>)
      x[i] = tendril::detail::float_from_bfloat16(bits);
    else
      x[i] = tendril::detail::float_from_float16(bits);
  }
}

}  // namespace fragments

inline void load_matrices(uint32_t (&r)[4], uint32_t address,
                          std::source_location place = std::source_location::current()) {
  const auto rows = fragments::exchange_rows(address, place);
  const size_t lane = static_cast<size_t>(emulated::lane()), g = lane / 4, t = lane % 4;
  for (size_t m = 0; m < 4; ++m)
    r[m] = fragments::two(rows[8 * m + g][2 * t], rows[8 * m + g][2 * t + 1]);
}

inline void load_matrices_transposed(uint32_t (&r)[4], uint32_t address,
                                     std::source_location place = std::source_location::current()) {
  const auto rows = fragments::exchange_rows(address, place);
  const size_t lane = static_cast<size_t>(emulated::lane()), g = lane / 4, t = lane % 4;
  for (size_t m = 0; m < 4; ++m)
    r[m] = fragments::two(rows[8 * m + 2 * t][g], rows[8 * m + 2 * t + 1][g]);
}

/// c += a b, summed from the first of the 16 products to the last and then added to c.
template <class T>
inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                         std::source_location place = std::source_location::current()) {
  static_assert(std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>);
  struct Fragment {
    float a[4][2], b[2][2];
  };
  Fragment mine;
  for (int i = 0; i < 4; ++i) fragments::unpack<T>(mine.a[i], a[i]);
  fragments::unpack<T>(mine.b[0], b0);
  fragments::unpack<T>(mine.b[1], b1);
  const std::array<Fragment, 32> all = emulated::exchange(mine, place);
  const size_t lane = static_cast<size_t>(emulated::lane()), g = lane / 4, t = lane % 4;
  for (size_t i = 0; i < 4; ++i) {
    const size_t lower = i / 2, column = 2 * t + i % 2;
    float sum = 0.0f;
    for (size_t k = 0; k < 16; ++k) {
      const size_t far = k / 8, holder = k % 8 / 2;  // which half of K, which lane of four has it
      sum += all[4 * g + holder].a[lower + 2 * far][k % 2] * all[4 * column + holder].b[far][k % 2];
    }
    c[i] += sum;
  }
}

template <class T>
inline uint32_t pack(float low, float high) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return fragments::two(tendril::detail::bfloat16_from_float(low),
                          tendril::detail::bfloat16_from_float(high));
  else
    return fragments::two(tendril::detail::float16_from_float(low),
                          tendril::detail::float16_from_float(high));
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
