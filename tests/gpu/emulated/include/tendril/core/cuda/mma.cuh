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

// What all 32 lanes post; emulated::exchange without its copy. Valid until the lane's next
// exchange.
template <class T>
inline const T* post(const T& mine, std::source_location place) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 64);
  return reinterpret_cast<const T*>(emulated::detail::exchange_bytes(&mine, sizeof mine, place));
}

using MatrixRow = std::array<uint16_t, 8>;

// What all lanes see: lane i holds row i % 8 of matrix i / 8.
inline const MatrixRow* exchange_rows(uint32_t address, std::source_location place) {
  MatrixRow row;
  std::memcpy(&row, emulated::shared_at(address, sizeof row), sizeof row);
  return post(row, place);
}

inline uint32_t two(uint16_t low, uint16_t high) { return low | uint32_t{high} << 16; }

template <class T>
inline void unpack(float* x, uint32_t both) {
  for (int i = 0; i < 2; ++i) {
    const auto bits = static_cast<uint16_t>(both >> (16 * i));
    if constexpr (std::is_same_v<T, bfloat16>)
      x[i] = tendril::detail::float_from_bfloat16(bits);
    else
      x[i] = tendril::detail::float_from_float16(bits);
  }
}

// A lane's part of the operands: of its two rows of A and its column of B the same four of the
// sixteen terms.
struct Fragment {
  using Terms [[gnu::vector_size(16)]] = float;
  Terms a[2], b;
};

}  // namespace fragments

inline void load_matrices(uint32_t (&r)[4], uint32_t address,
                          std::source_location place = std::source_location::current()) {
  const auto* rows = fragments::exchange_rows(address, place);
  const size_t lane = static_cast<size_t>(emulated::lane()), g = lane / 4, t = lane % 4;
  for (size_t m = 0; m < 4; ++m)
    r[m] = fragments::two(rows[8 * m + g][2 * t], rows[8 * m + g][2 * t + 1]);
}

inline void load_matrices_transposed(uint32_t (&r)[4], uint32_t address,
                                     std::source_location place = std::source_location::current()) {
  const auto* rows = fragments::exchange_rows(address, place);
  const size_t lane = static_cast<size_t>(emulated::lane()), g = lane / 4, t = lane % 4;
  for (size_t m = 0; m < 4; ++m)
    r[m] = fragments::two(rows[8 * m + 2 * t][g], rows[8 * m + 2 * t + 1][g]);
}

/// c += a b; the sixteen products are summed in an order of their own and then added to c.
template <class T>
inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                         std::source_location place = std::source_location::current()) {
  static_assert(std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>);
  float mine[12];
  const uint32_t pairs[6] = {a[0], a[2], a[1], a[3], b0, b1};
  for (int i = 0; i < 6; ++i) fragments::unpack<T>(mine + 2 * i, pairs[i]);
  fragments::Fragment fragment;
  static_assert(sizeof fragment == sizeof mine);
  std::memcpy(&fragment, mine, sizeof mine);
  const auto* all = fragments::post(fragment, place);
  const size_t lane = static_cast<size_t>(emulated::lane()), g = lane / 4, t = lane % 4;
  for (size_t i = 0; i < 4; ++i) {
    const auto *left = all + 4 * g, *right = all + 4 * (2 * t + i % 2);
    fragments::Fragment::Terms sum{};
    for (int holder = 0; holder < 4; ++holder) sum += left[holder].a[i / 2] * right[holder].b;
    c[i] += (sum[0] + sum[1]) + (sum[2] + sum[3]);
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
