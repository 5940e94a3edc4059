// Losses of pairs (x, t) of numbers, for CPU loops and CUDA kernels: one functor each, with the
// value and both derivatives. The formulas are in loss.h. Internal.
#pragma once

#include <algorithm>
#include <cmath>

#include <tendril/core/cpu/vecmath.h>

namespace tendril::ops {

struct SquaredError {
  template <class C>
  TENDRIL_HD static C value(C x, C t) {
    return (x - t) * (x - t);
  }
  template <class C>
  TENDRIL_HD static C by_x(C x, C t) {
    return C(2) * (x - t);
  }
  template <class C>
  TENDRIL_HD static C by_target(C x, C t) {
    return C(2) * (t - x);
  }
};

struct AbsoluteError {
  template <class C>
  TENDRIL_HD static C value(C x, C t) {
    return std::abs(x - t);
  }
  template <class C>
  TENDRIL_HD static C by_x(C x, C t) {
    return static_cast<C>((x > t) - (x < t));
  }
  template <class C>
  TENDRIL_HD static C by_target(C x, C t) {
    return static_cast<C>((x < t) - (x > t));
  }
};

VEC_INLINE double log1p(double x) { return std::log1p(x); }
// For x in [0, 1], exact also where 1 + x rounds to 1; unlike the standard one it vectorises.
VEC_INLINE float log1p(float x) {
  const float rounded = 1.0f + x;
  const float ratio = vec::log(rounded) * x / (rounded - 1.0f);
  return rounded == 1.0f ? x : ratio;
}

struct LogisticLoss {
  template <class C>
  TENDRIL_HD static C value(C x, C t) {
    return std::max(x, C(0)) - x * t + log1p(vec::exp(-std::abs(x)));
  }
  template <class C>
  TENDRIL_HD static C by_x(C x, C t) {
    return vec::sigmoid(x) - t;
  }
  template <class C>
  TENDRIL_HD static C by_target(C x, C) {
    return -x;
  }
};

// A target of 0 adds nothing, whatever log probability stands beside it (-inf above all).
struct Divergence {
  template <class C>
  TENDRIL_HD static C value(C x, C t) {
    return t == C(0) ? C(0) : t * (std::log(t) - x);
  }
  template <class C>
  TENDRIL_HD static C by_x(C, C t) {
    return -t;
  }
  template <class C>
  TENDRIL_HD static C by_target(C x, C t) {
    return t == C(0) ? C(0) : std::log(t) + C(1) - x;
  }
};

struct LogDivergence {
  template <class C>
  TENDRIL_HD static C value(C x, C t) {
    return weighted(t, t - x);
  }
  template <class C>
  TENDRIL_HD static C by_x(C, C t) {
    return -std::exp(t);
  }
  template <class C>
  TENDRIL_HD static C by_target(C x, C t) {
    return weighted(t, t - x + C(1));
  }
  template <class C>
  TENDRIL_HD static C weighted(C t, C factor) {
    const C weight = std::exp(t);
    return weight == C(0) ? C(0) : weight * factor;
  }
};

}  // namespace tendril::ops
