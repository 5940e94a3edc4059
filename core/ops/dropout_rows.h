// Dropout of a run of elements, per instruction set.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/cpu/philox.h>

// y_i = word < threshold ? 0 : x_i scale for the words of element `first` + i; `first` a multiple
// of 64.
TENDRIL_DECLARE_ISA(                                                                             //
    void dropout_run(const float* x, float* y, int64_t first, int64_t n, PhiloxStream stream,    //
                     uint32_t threshold, double scale);                                          //
    void dropout_run(const double* x, double* y, int64_t first, int64_t n, PhiloxStream stream,  //
                     uint32_t threshold, double scale))
