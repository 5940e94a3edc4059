// Dropout of a run of elements, per instruction set. T is float or double. Internal.
#pragma once

#include <cstdint>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/cpu/philox.h>

// y_i = word < threshold ? 0 : x_i scale, with the word of element `first` + i; `first` is a
// multiple of kPhiloxWords.
TENDRIL_DECLARE_ISA(template <class T> void dropout_run(const T* x, T* y, int64_t first, int64_t n,
                                                        PhiloxStream stream, uint32_t threshold,
                                                        double scale))
