// One row of softmax and of cross entropy, per instruction set. T is float or double. Internal.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>

namespace tendril::cpu {

/// What a row's softmax is made of: p_i = exp(x_i - maximum) / sum.
struct RowExponentials {
  double maximum, sum;
};

}  // namespace tendril::cpu

// y_i = exp(x_i - max x) / sum_j exp(x_j - max x)
TENDRIL_DECLARE_ISA(template <class T> void softmax_row(const T* x, T* y, int64_t n))
// dx_i = y_i (g_i - sum_j g_j y_j)
TENDRIL_DECLARE_ISA(template <class T>
                    void softmax_row_backward(const T* g, const T* y, T* dx, int64_t n))

// y_i = (x_i - max x) - log sum_j exp(x_j - max x)
TENDRIL_DECLARE_ISA(template <class T> void log_softmax_row(const T* x, T* y, int64_t n))
// dx_i = g_i - exp(y_i) sum_j g_j
TENDRIL_DECLARE_ISA(template <class T>
                    void log_softmax_row_backward(const T* g, const T* y, T* dx, int64_t n))

// The two numbers behind a row's logsumexp.
TENDRIL_DECLARE_ISA(template <class T> RowExponentials row_exponentials(const T* x, int64_t n))
// The same; x_i becomes exp(x_i - maximum). When all x_i are -inf, they become 0.
TENDRIL_DECLARE_ISA(template <class T> RowExponentials row_exponentials_in_place(T* x, int64_t n))
// x_i becomes scale x_i - offset
TENDRIL_DECLARE_ISA(template <class T>
                    void row_affine_in_place(T* x, int64_t n, double scale, double offset))
// sum_i x_i
TENDRIL_DECLARE_ISA(template <class T> double row_total(const T* x, int64_t n))
// p_i = factor (exp(x_i - logsumexp) - subtract)
TENDRIL_DECLARE_ISA(template <class T> void row_probabilities(const T* x, T* p, int64_t n,
                                                              double logsumexp, double subtract,
                                                              double factor))
