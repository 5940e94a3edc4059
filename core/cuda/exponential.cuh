// exp(x - shift) of the numbers of a row, at the speed of memory.
#pragma once

#include <tendril/core/cpu/vecmath.h>
#include <tendril/core/dtype.h>
#include <tendril/core/cuda/mma.cuh>

namespace tendril::cuda {

/// exp(x - shift) for numbers of type T. For 16-bit types it is two instructions: the rounding of
/// shift log2(e) makes all results of one shift wrong by the same factor, within 1e-7 |shift| of 1,
/// which their sum divides out again, and log_share() too.
template <class T>
class Exponential {
 public:
  using C = compute_t<T>;
  __device__ explicit Exponential(C shift) : shift_(is_half<T> ? shift * kLog2E : shift) {}

  __device__ C operator()(C x) const {
    if constexpr (is_half<T>)
      return exp2_approximate(fma(x, kLog2E, -shift_));
    else
      return vec::exp(x - shift_);
  }

  /// log(exp(x - shift) / sum) for the sum of such exponentials, of which this one is a part.
  __device__ C log_share(C x, C log_sum) const {
    if constexpr (!is_half<T>) return x - shift_ - log_sum;
    const C share = fma(x, kLog2E, -shift_) * kLn2 - log_sum;
    return share > C(0) ? C(0) : share;  // but for rounding it is not; NaN stays
  }

 private:
  static constexpr C kLog2E = static_cast<C>(1.4426950408889634),
                     kLn2 = static_cast<C>(0.6931471805599453);
  C shift_;
};

}  // namespace tendril::cuda
