// Stable sorting of unsigned keys with positions, on the current stream and without waiting.
#pragma once

#include <cstdint>

#include <tendril/core/tensor.h>
#include <tendril/core/cuda/runtime.cuh>

namespace tendril::cuda {

/// Sorts each of `runs` runs of `length` keys; the values go along. Only the lowest `bits` of a key
/// count. Equal keys keep their order. Key is uint32_t or uint64_t; the outputs must not overlap
/// the inputs.
template <class Key>
void sort_runs(Device device, const Key* keys, Key* sorted_keys, const int64_t* values,
               int64_t* sorted_values, int64_t length, int64_t runs, int bits);

/// Positions 0 .. n - 1 in the order of their keys, those of equal keys in their own order: what
/// sums over equal keys need to be the same on every run.
struct Order {
  Tensor keys, positions;  // (n), i64; the keys as uint64_t, sorted
};
/// `keys` is a dense i64 tensor of unsigned numbers up to `largest`.
Order order_of(const Tensor& keys, uint64_t largest);

}  // namespace tendril::cuda
