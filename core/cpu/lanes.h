// Sums and maxima for *.isa.cpp files. Floating-point addition is not associative, so a compiler
// may not vectorise a plain sum; here the partial sums of one 64-byte vector are spelled out. Their
// number does not depend on the instruction set.
#pragma once

#include <cmath>
#include <cstdint>

#include <tendril/core/cpu/isa.h>

// For lambdas: a closure that did not inline would be called once per element.
#define LANES_VALUE __attribute__((always_inline))

namespace tendril::cpu::TENDRIL_ISA {

/// value(0) + ... + value(n - 1)
template <class T, class Value>
ISA_INLINE T sum_of(int64_t n, Value value) {
  constexpr int64_t kLanes = 64 / sizeof(T);
  T lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) lane[l] += value(i + l);
  for (int64_t l = 0; i < n; ++i, ++l) lane[l] += value(i);
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

/// The largest of x[0 .. n), -infinity for n = 0; NaN never wins.
template <class T>
ISA_INLINE T max_of(const T* x, int64_t n) {
  constexpr int64_t kLanes = 64 / sizeof(T);
  T lane[kLanes];
  for (int64_t l = 0; l < kLanes; ++l) lane[l] = -INFINITY;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
  for (; i < n; ++i) lane[0] = x[i] > lane[0] ? x[i] : lane[0];
  for (int64_t l = 1; l < kLanes; ++l) lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
  return lane[0];
}

}  // namespace tendril::cpu::TENDRIL_ISA
