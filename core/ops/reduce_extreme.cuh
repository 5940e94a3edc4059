// Reducers for the largest and smallest value on the GPU. Internal; max, min, argmax, argmin and
// norm use them. Integers come as i64.
#pragma once

#include <limits>

#include <tendril/core/ops/reduce_float.cuh>

namespace tendril::ops::cuda {

/// The order of the values.
template <class T>
struct Ranking {
  using Kind = ::tendril::cpu::Extreme;
  using C = compute_t<T>;
  using Limits = std::numeric_limits<C>;
  Kind kind;

  __device__ C lowest() const {
    if (kind == Kind::max_absolute) return C(0);
    if constexpr (Limits::has_infinity)
      return kind == Kind::max ? -Limits::infinity() : Limits::infinity();
    else
      return kind == Kind::max ? Limits::lowest() : Limits::max();
  }
  __device__ C rank_of(T x) const {
    const C value = static_cast<C>(x);
    return kind == Kind::max_absolute && value < C(0) ? -value : value;
  }
  // NaN beats all numbers.
  __device__ bool beats(C x, C best) const {
    if (best != best) return false;
    if (x != x) return true;
    return kind == Kind::min ? x < best : x > best;
  }
};

template <class T>
struct ExtremeOf {
  using Element = T;
  using Partial = compute_t<T>;
  Ranking<T> ranking;
  T* out;

  __device__ Partial identity() const { return ranking.lowest(); }
  __device__ NoContext context(int64_t) const { return {}; }
  template <int N>
  __device__ void add(Partial& best, const Vector<T, N>& values, NoContext, int64_t,
                      int64_t) const {
#pragma unroll
    for (int k = 0; k < N; ++k) combine(best, ranking.rank_of(values.v[k]));
  }
  __device__ void combine(Partial& a, Partial b) const {
    if (ranking.beats(b, a)) a = b;
  }
  __device__ void write(int64_t result, Partial best) const { out[result] = static_cast<T>(best); }
};

/// The position of the first extreme value among the values of its result; -1 of nothing.
template <class T>
struct ExtremeIndex {
  using Element = T;
  struct Partial {
    compute_t<T> value;
    int64_t index;
  };
  Ranking<T> ranking;
  int64_t* out;

  __device__ Partial identity() const { return {ranking.lowest(), -1}; }
  __device__ NoContext context(int64_t) const { return {}; }
  template <int N>
  __device__ void add(Partial& best, const Vector<T, N>& values, NoContext, int64_t position,
                      int64_t step) const {
#pragma unroll
    for (int k = 0; k < N; ++k) combine(best, {ranking.rank_of(values.v[k]), position + k * step});
  }
  __device__ void combine(Partial& a, const Partial& b) const {
    if (b.index < 0) return;
    const bool equal = a.value == b.value || (a.value != a.value && b.value != b.value);
    if (a.index < 0 || ranking.beats(b.value, a.value) || (equal && b.index < a.index)) a = b;
  }
  __device__ void write(int64_t result, const Partial& best) const { out[result] = best.index; }
};

/// dx: g (or g sign(x) for max_absolute) at the first extreme value of each result, else 0.
Tensor extreme_backward(const Tensor& g, const Tensor& x, const Shape& axes,
                        ::tendril::cpu::Extreme kind);

}  // namespace tendril::ops::cuda
