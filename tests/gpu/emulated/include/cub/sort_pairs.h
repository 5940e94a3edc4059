// The sort under cub's radix sorts: stable, by some bits of unsigned keys.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <type_traits>
#include <vector>

namespace emulated {

/// `out` gets the pairs of `in` in the order of bits [begin_bit, end_bit) of the keys.
template <class Key, class Value>
void sort_pairs(const Key* keys_in, Key* keys_out, const Value* values_in, Value* values_out,
                size_t count, int begin_bit, int end_bit) {
  static_assert(std::is_unsigned_v<Key>);
  const int bits = end_bit - begin_bit;
  const Key mask = bits < static_cast<int>(8 * sizeof(Key)) ? static_cast<Key>((Key{1} << bits) - 1)
                                                            : static_cast<Key>(~Key{0});
  const auto part = [&](size_t i) { return static_cast<Key>(keys_in[i] >> begin_bit) & mask; };
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t i, size_t j) { return part(i) < part(j); });
  for (size_t i = 0; i < count; ++i) {
    keys_out[i] = keys_in[order[i]];
    values_out[i] = values_in[order[i]];
  }
}

/// What cub asks of the arguments of a sort.
template <class Key, class Value>
bool sortable(const Key* keys_in, const Key* keys_out, const Value* values_in,
              const Value* values_out, int64_t count, int begin_bit, int end_bit) {
  const bool apart = keys_in + count <= keys_out || keys_out + count <= keys_in;
  const bool values_apart = values_in + count <= values_out || values_out + count <= values_in;
  return count >= 0 && apart && values_apart && begin_bit >= 0 && begin_bit <= end_bit &&
         end_bit <= static_cast<int>(8 * sizeof(Key));
}

}  // namespace emulated
