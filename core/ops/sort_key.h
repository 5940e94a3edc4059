// Numbers as unsigned keys of the same order: NaN above everything, -0 equal to 0. Internal; used
// by sort.cpp and sort.cu.
#pragma once

#include <cstring>
#include <type_traits>

#include <tendril/core/dtype.h>

namespace tendril::ops {

template <class T>
using SortKey = std::conditional_t<sizeof(compute_t<T>) == 8, uint64_t, uint32_t>;

template <class T>
TENDRIL_HD SortKey<T> sort_key(T x) {
  using Key = SortKey<T>;
  constexpr Key kSign = Key{1} << (8 * sizeof(Key) - 1);
  if constexpr (is_floating(dtype_of<T>())) {
    const compute_t<T> value = static_cast<compute_t<T>>(x) + 0;  // -0 becomes 0
    if (value != value) return static_cast<Key>(-1);
    Key bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits & kSign ? ~bits
                        : bits | kSign;  // the larger a negative number's bits, the smaller it is
  } else if constexpr (std::is_signed_v<T>) {
    return static_cast<Key>(x) ^ kSign;
  } else {
    return static_cast<Key>(x);
  }
}

}  // namespace tendril::ops
