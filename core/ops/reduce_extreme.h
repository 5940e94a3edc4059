// Reducers for the largest and smallest value. Internal; max, min, argmax, argmin and norm use
// them.
#pragma once

#include <cmath>
#include <limits>

#include <tendril/core/ops/reduce_engine.h>
#include <tendril/core/ops/reduce_kernels.h>

namespace tendril::ops {

template <class T>
struct ExtremeOf {
  using Kind = ::tendril::cpu::Extreme;
  using Partial = compute_t<T>;
  using Limits = std::numeric_limits<Partial>;
  static constexpr bool has_columns = true;
  Kind kind;

  Partial identity() const {
    if (kind == Kind::max_absolute) return Partial(0);
    if constexpr (Limits::has_infinity)
      return kind == Kind::max ? -Limits::infinity() : Limits::infinity();
    return kind == Kind::max ? Limits::lowest() : Limits::max();
  }
  /// Whether x, which comes later, takes the place of best. NaN beats all but an earlier NaN.
  bool beats(Partial x, Partial best) const {
    if constexpr (Limits::has_infinity) {
      if (std::isnan(best)) return false;
      if (std::isnan(x)) return true;
    }
    return kind == Kind::min ? x < best : x > best;
  }
  void combine(Partial& a, Partial b) const {
    if (beats(b, a)) a = b;
  }
  Partial row(const T* x, int64_t n, int64_t, int64_t) const {
    Partial best = identity();
    if constexpr (Limits::has_infinity) {
      best = TENDRIL_ISA_CALL(extreme_row<T>(x, n, kind, best));
    } else {
      for (int64_t i = 0; i < n; ++i) combine(best, x[i]);
    }
    return best;
  }
  void columns(const T* x, int64_t stride, int64_t rows, int64_t columns, Partial* best,
               int64_t) const {
    if constexpr (Limits::has_infinity) {
      TENDRIL_ISA_CALL(extreme_columns<T>(x, stride, rows, columns, kind, best));
    } else {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c) combine(best[c], x[r * stride + c]);
    }
  }
};

namespace cpu {

/// dx: g (or g sign(x) for max_absolute) at the first extreme value of each result, else 0.
Tensor extreme_backward(const Tensor& g, const Tensor& x, const Shape& axes,
                        ::tendril::cpu::Extreme kind);

}  // namespace cpu
}  // namespace tendril::ops
