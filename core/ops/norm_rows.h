// One row of layer_norm and rms_norm, per instruction set. T is float or double; `weight` and
// `bias` hold n numbers (ones and zeros when the layer has none). Internal.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>

namespace tendril::cpu {

template <class T>
struct RowMoments {
  T mean, rstd;  // rstd: 1 / sqrt(variance + eps)
};

}  // namespace tendril::cpu

// y = (x - mean) rstd weight + bias; returns the moments.
TENDRIL_DECLARE_ISA(template <class T> RowMoments<T> layer_norm_row(const T* x, const T* weight,
                                                                    const T* bias, T* y, int64_t n,
                                                                    double eps))
// dx, and dweight += g (x - mean) rstd, dbias += g
TENDRIL_DECLARE_ISA(template <class T>
                    void layer_norm_row_backward(const T* g, const T* x, const T* weight,
                                                 RowMoments<T> moments, T* dx, T* dweight, T* dbias,
                                                 int64_t n))

// y = x rstd weight; returns rstd = 1 / sqrt(mean(x^2) + eps).
TENDRIL_DECLARE_ISA(template <class T>
                    T rms_norm_row(const T* x, const T* weight, T* y, int64_t n, double eps))
// dx, and dweight += g x rstd
TENDRIL_DECLARE_ISA(template <class T> void rms_norm_row_backward(const T* g, const T* x,
                                                                  const T* weight, T rstd, T* dx,
                                                                  T* dweight, int64_t n))
