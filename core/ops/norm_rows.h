// One row of layer_norm and rms_norm, per instruction set. `weight` and `bias` hold n numbers (ones
// and zeros when the layer has none).
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>

namespace tendril::cpu {

template <class T>
struct RowMoments {
  T mean, rstd;  // rstd: 1 / sqrt(variance + eps)
};

}  // namespace tendril::cpu

// layer_norm_row:          y = (x - mean) rstd weight + bias; returns the moments
// layer_norm_row_backward: dx, and dweight += g (x - mean) rstd, dbias += g
// rms_norm_row:            y = x rstd weight; returns rstd = 1 / sqrt(mean(x^2) + eps)
// rms_norm_row_backward:   dx, and dweight += g x rstd
TENDRIL_DECLARE_ISA(  //
    RowMoments<float> layer_norm_row(const float* x, const float* weight, const float* bias,
                                     float* y,                                                    //
                                     int64_t n, double eps);                                      //
    RowMoments<double> layer_norm_row(const double* x, const double* weight, const double* bias,  //
                                      double* y, int64_t n, double eps);                          //
    void layer_norm_row_backward(const float* g, const float* x, const float* weight,             //
                                 RowMoments<float> moments, float* dx, float* dweight,
                                 float* dbias,                                            //
                                 int64_t n);                                              //
    void layer_norm_row_backward(const double* g, const double* x, const double* weight,  //
                                 RowMoments<double> moments, double* dx, double* dweight,
                                 double* dbias,                                                //
                                 int64_t n);                                                   //
    float rms_norm_row(const float* x, const float* weight, float* y, int64_t n, double eps);  //
    double rms_norm_row(const double* x, const double* weight, double* y, int64_t n,
                        double eps);                                                             //
    void rms_norm_row_backward(const float* g, const float* x, const float* weight, float rstd,  //
                               float* dx, float* dweight, int64_t n);                            //
    void rms_norm_row_backward(const double* g, const double* x, const double* weight,
                               double rstd,  //
                               double* dx, double* dweight, int64_t n))
