// 16-byte accesses: a thread reads or writes kVector<T> neighbours at once.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include <tendril/core/dtype.h>

namespace tendril::cuda {

template <class T>
inline constexpr int kVector = static_cast<int>(16 / sizeof(T));

template <class T, int N = kVector<T>>
struct alignas(sizeof(T) * N) Vector {
  T v[N];
};

template <class T, int N = kVector<T>>
__device__ inline Vector<T, N> load_vector(const T* from) {
  return *reinterpret_cast<const Vector<T, N>*>(from);
}

template <class T, int N = kVector<T>>
__device__ inline void store_vector(T* to, const Vector<T, N>& values) {
  *reinterpret_cast<Vector<T, N>*>(to) = values;
}

/// 16 bytes of numbers as they came from memory. A Vector of 16-bit numbers that outlives a branch
/// or an iteration is taken apart when it arrives, which waits for it; this is not.
struct __attribute__((may_alias, aligned(16))) Packed {
  uint32_t words[4];
};

template <class T>
__device__ inline Packed load_packed(const T* from) {
  return *reinterpret_cast<const Packed*>(from);
}

template <class T>
__device__ inline Packed pack(const Vector<T>& values) {
  Packed packed;
  memcpy(&packed, &values, 16);
  return packed;
}

template <class T>
__device__ inline Vector<T> unpack(const Packed& packed) {
  Vector<T> values;
  memcpy(&values, &packed, 16);
  return values;
}

/// The numbers in C.
template <class C, class T>
__device__ inline Vector<C, kVector<T>> unpack_as(const Packed& packed) {
  Vector<C, kVector<T>> values;
  if constexpr (std::is_same_v<T, bfloat16>) {  // one instruction each
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values.v[2 * i] = detail::bits_float(packed.words[i] << 16);
      values.v[2 * i + 1] = detail::bits_float(packed.words[i] & 0xFFFF0000u);
    }
  } else {
    const Vector<T> raw = unpack<T>(packed);
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) values.v[k] = static_cast<C>(raw.v[k]);
  }
  return values;
}

/// Whether the pointers allow 16-byte accesses.
inline bool aligned16(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}
template <class... Pointers>
bool aligned16(const void* first, const Pointers*... others) {
  return aligned16(first) && aligned16(others...);
}

/// Whether the pointer allows accesses to N elements at once.
template <class T, int N>
bool aligned_for(const T* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % sizeof(Vector<T, N>) == 0;
}

}  // namespace tendril::cuda
