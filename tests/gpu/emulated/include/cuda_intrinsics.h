// The device functions that our kernels use beyond those of <cmath>.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <source_location>

#include "../emulated.h"

// ---------------------------------------------------------------- waiting and exchanging

inline void __syncthreads(std::source_location place = std::source_location::current()) {
  ::emulated::synchronize_block(place);
}

namespace emulated {

/// Masks name all lanes, of a last warp that is not whole too; no kernel of ours needs others.
inline void check_mask(unsigned mask) {
  if (mask != ~0u) trap("named some lanes of its warp only, which the emulator does not know");
}

/// The value of another lane, within groups of `width` neighbours; one's own where the group ends.
template <class T, class Source>
T shuffle(unsigned mask, const T& mine, int width, std::source_location place, Source source) {
  check_mask(mask);
  const int self = lane(), group = self / width * width;
  const unsigned char* all = detail::exchange_bytes(&mine, sizeof mine, place);
  const int from = source(self, group);
  if (from < group || from >= group + width) return mine;
  T value;
  std::memcpy(&value, all + static_cast<size_t>(from) * sizeof value, sizeof value);
  return value;
}

}  // namespace emulated

inline void __syncwarp(unsigned mask = ~0u,
                       std::source_location place = std::source_location::current()) {
  ::emulated::check_mask(mask);
  ::emulated::synchronize_warp(place);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              std::source_location place = std::source_location::current()) {
  return ::emulated::shuffle(mask, value, width, place,
                             [&](int, int group) { return group + (source & (width - 1)); });
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32,
                 std::source_location place = std::source_location::current()) {
  return ::emulated::shuffle(mask, value, width, place,
                             [&](int self, int) { return self - static_cast<int>(by); });
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                   std::source_location place = std::source_location::current()) {
  return ::emulated::shuffle(mask, value, width, place,
                             [&](int self, int) { return self + static_cast<int>(by); });
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  std::source_location place = std::source_location::current()) {
  return ::emulated::shuffle(mask, value, width, place,
                             [&](int self, int) { return self ^ lane_mask; });
}

inline unsigned __ballot_sync(unsigned mask, bool value,
                              std::source_location place = std::source_location::current()) {
  ::emulated::check_mask(mask);
  unsigned lanes = 0;
  const auto all = ::emulated::exchange(value, place);
  for (unsigned i = 0; i < 32; ++i) lanes |= unsigned{all[i]} << i;
  return lanes;
}
// ---------------------------------------------------------------- atomics

template <class T>
T atomicCAS(T* at, T expected, T desired) {
  __atomic_compare_exchange_n(at, &expected, desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

// For whole numbers alone: the bits of a sum of floats would depend on the order.
inline unsigned long long atomicAdd(unsigned long long* at, unsigned long long more) {
  return __atomic_fetch_add(at, more, __ATOMIC_RELAXED);
}

// ---------------------------------------------------------------- arithmetic

// CUDA declares these for pairs of one type.
template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

inline int __popc(unsigned x) { return std::popcount(x); }
inline float __expf(float x) { return ::expf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1.0f / ::sqrtf(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline double rsqrt(double x) { return 1.0 / ::sqrt(x); }

inline size_t __cvta_generic_to_shared(const void* pointer) {
  return ::emulated::shared_address(pointer);
}

#if !defined(__clang__)
#define __builtin_assume(condition) ((condition) ? void() : __builtin_unreachable())
#endif
