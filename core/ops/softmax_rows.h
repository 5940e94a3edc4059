// One row of softmax and of cross entropy, per instruction set.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>

namespace tendril::cpu {

/// What a row's softmax is made of: p_i = exp(x_i - maximum) / sum.
struct RowExponentials {
  double maximum, sum;
};

}  // namespace tendril::cpu

// softmax_row:              y_i = exp(x_i - max x) / sum_j exp(x_j - max x)
// softmax_row_backward:     dx_i = y_i (g_i - sum_j g_j y_j)
// log_softmax_row:          y_i = (x_i - max x) - log sum_j exp(x_j - max x)
// log_softmax_row_backward: dx_i = g_i - exp(y_i) sum_j g_j
// row_exponentials:         the two numbers of logsumexp, x is only read
// row_total:                sum_i x_i
// row_probabilities:        p_i = factor (exp(x_i - logsumexp) - subtract)
TENDRIL_DECLARE_ISA(                                                                         //
    void softmax_row(const float* x, float* y, int64_t n);                                   //
    void softmax_row(const double* x, double* y, int64_t n);                                 //
    void softmax_row_backward(const float* g, const float* y, float* dx, int64_t n);         //
    void softmax_row_backward(const double* g, const double* y, double* dx, int64_t n);      //
    void log_softmax_row(const float* x, float* y, int64_t n);                               //
    void log_softmax_row(const double* x, double* y, int64_t n);                             //
    void log_softmax_row_backward(const float* g, const float* y, float* dx, int64_t n);     //
    void log_softmax_row_backward(const double* g, const double* y, double* dx, int64_t n);  //
    RowExponentials row_exponentials(const float* x, int64_t n);                             //
    RowExponentials row_exponentials(const double* x, int64_t n);                            //
    double row_total(const float* x, int64_t n);                                             //
    double row_total(const double* x, int64_t n);                                            //
    void row_probabilities(const float* x, float* p, int64_t n, double logsumexp,
                           double subtract,  //
                           double factor);   //
    void row_probabilities(const double* x, double* p, int64_t n, double logsumexp,
                           double subtract,  //
                           double factor))
