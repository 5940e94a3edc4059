// 16-byte accesses: a thread reads or writes kVector<T> neighbours at once.
#pragma once

#include <cstdint>

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
