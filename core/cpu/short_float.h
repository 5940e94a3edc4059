// Floats whose results are rounded to 16 bits, for functors on a GPU.
#pragma once

#include <tendril/core/cpu/vecmath.h>

namespace tendril::vec {

/// Arithmetic is that of float; the sigmoid takes four instructions instead of a dozen. Its
/// relative error is at most 1e-7 (|x| + 4) (16-bit numbers are 5e-4 apart); 0 from x = -88 down.
struct ShortFloat {
  float number;
  template <class Number>
  VEC_INLINE explicit ShortFloat(Number x) : number(static_cast<float>(x)) {}
};

VEC_INLINE ShortFloat operator+(ShortFloat a, ShortFloat b) {
  return ShortFloat(a.number + b.number);
}
VEC_INLINE ShortFloat operator-(ShortFloat a, ShortFloat b) {
  return ShortFloat(a.number - b.number);
}
VEC_INLINE ShortFloat operator*(ShortFloat a, ShortFloat b) {
  return ShortFloat(a.number * b.number);
}

VEC_INLINE ShortFloat sigmoid(ShortFloat x) {
#ifdef __CUDA_ARCH__
  float power, result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x.number * -1.4426950408889634f));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(1.0f + power));
  return ShortFloat(result);
#else
  return ShortFloat(sigmoid(x.number));
#endif
}

}  // namespace tendril::vec
